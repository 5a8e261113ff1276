"""A file, or a page of a server, as bytes: bounded in size and time, over http and https alone."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from catalog.errors import BadInput, LanewiseError

MOST_BYTES = 64 * 2**20
"""A page of metrics has 50 kB, a benchmark with every request some megabytes (assumed bound)."""
CONNECT_S, READ_S, WHOLE_S = 5.0, 10.0, 60.0


def content(name: str) -> tuple[bytes, str]:
    """The bytes and the name to cite, an address without its password and query. Raises BadInput or LanewiseError."""
    if "://" in name:
        return _page(name), _cited(name)
    path = Path(name)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BadInput(f"larger than {MOST_BYTES >> 20} MiB", name)
        return path.read_bytes(), path.name
    except OSError as fault:
        raise BadInput(f"cannot be read: {fault.strerror}", name) from None


def _cited(address: str) -> str:
    parts = urlsplit(address)
    host = parts.hostname or ""
    return urlunsplit((parts.scheme, f"{host}:{parts.port}" if parts.port else host, parts.path, "", ""))


def _page(address: str) -> bytes:
    import time

    import httpx

    if urlsplit(address).scheme not in ("http", "https"):
        raise BadInput("only http and https addresses are read", address)
    timeout, began = httpx.Timeout(READ_S, connect=CONNECT_S), time.monotonic()
    found = bytearray()
    try:
        with httpx.stream("GET", address, timeout=timeout, follow_redirects=False) as answer:
            if answer.status_code != httpx.codes.OK:
                raise LanewiseError(f"{_cited(address)} answers {answer.status_code} {answer.reason_phrase}")
            for chunk in answer.iter_bytes():
                found += chunk
                if len(found) > MOST_BYTES:
                    raise LanewiseError(f"{_cited(address)} answers more than {MOST_BYTES >> 20} MiB")
                if time.monotonic() - began > WHOLE_S:
                    raise LanewiseError(f"{_cited(address)} did not end within {WHOLE_S:g} s")
    except (httpx.HTTPError, httpx.InvalidURL) as fault:
        raise LanewiseError(f"{_cited(address)} cannot be read: {fault or type(fault).__name__}") from None
    return bytes(found)
