"""`lanewise probe`: what this machine has and has free."""

from __future__ import annotations

import argparse
import sys
from typing import Any
from urllib.parse import urlsplit

import msgspec

from catalog.errors import BadInput, LanewiseError
from catalog.inventory import Inventory
from planner.cli.common import Commands, write_document

SEND_S = 30.0
"""How long a server may take to answer: assumed."""


def add_to(commands: Commands) -> None:
    """Declare `probe`."""
    probe = commands.add_parser(
        "probe",
        help="what this machine has and has free: devices, memory, engines",
        description="Look at this machine and change nothing. What cannot be read is said in a sentence.",
    )
    probe.add_argument("--json", action="store_true", help="print the inventory as one JSON document")
    probe.add_argument("--send", metavar="URL", help="keep the inventory on the Lanewise server at URL; prints its id")
    probe.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Probe, print, send."""
    from planner import service, settings

    if arguments.send is not None:
        check(arguments.send)
    found = service.probe(settings.from_environment())
    if arguments.json:
        write_document(service.encode(found))
    else:
        from planner import machine_report

        machine_report.show(found)
    if arguments.send is not None:
        identity = send(arguments.send, found)
        print(f"kept as inventory {identity} on {arguments.send}", file=sys.stderr if arguments.json else sys.stdout)
    return 0


def check(url: str) -> None:
    """Refuse before probing what cannot be sent to."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise BadInput(f"expected a URL like http://planner:8321, got {url!r}", "--send")


def send(url: str, inventory: Inventory) -> str:
    """The id under which the server at `url` keeps the inventory. Raises LanewiseError where it does not."""
    import httpx

    from planner import service

    place = f"{url.rstrip('/')}/inventories"
    try:
        answer = httpx.post(place, content=service.encode(inventory), timeout=SEND_S)
    except httpx.InvalidURL as error:
        raise BadInput(f"no URL: {error}", "--send") from None
    except httpx.HTTPError as error:
        raise LanewiseError(f"the inventory was not sent: {place} cannot be reached ({error})") from None
    said = _table(answer.content)
    if answer.is_success and isinstance(said.get("id"), str):
        return str(said["id"])
    reason = said.get("detail") or "no Lanewise server answers there"
    raise LanewiseError(f"the inventory was not kept: {place} answered {answer.status_code} ({reason})")


def _table(content: bytes) -> dict[str, Any]:
    """A JSON object; an empty one where the content is something else."""
    try:
        return msgspec.json.decode(content, type=dict)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
