"""A small hub on loopback: the four requests that huggingface_hub makes to read a config and safetensors headers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
INFO = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)(?:/revision/(?P<revision>[^/]+))?$")
TREE = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)")
PATHS = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/paths-info/(?P<revision>[^/]+)$")
FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)$")
GATED = "gated/model"
REVISIONS = ("main", COMMIT)


class Handler(BaseHTTPRequestHandler):
    """Serves repositories under `root`; `requests` lists what was asked."""

    protocol_version = "HTTP/1.1"
    root: Path
    requests: list[str]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        self.requests.append(f"{self.command} {self.path} {self.headers.get('Range', '')}")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        for pattern, answer in ((INFO, self.info), (TREE, self.tree), (FILE, self.file)):
            found = pattern.match(path)
            if found and self.allowed(found):
                answer(found)
            if found:
                return
        self.refuse(404, "RepoNotFound")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = PATHS.match(unquote(self.path))
        if found and self.allowed(found):
            names = json.loads(body).get("paths", [])
            self.answer(
                [self.entry(found["repo"], name) for name in names if (self.root / found["repo"] / name).is_file()]
            )

    def allowed(self, found: re.Match[str]) -> bool:
        """Whether the repository and revision exist and may be read; the refusal is sent otherwise."""
        if found["repo"] == GATED:
            self.refuse(403, "GatedRepo")
            return False
        if not (self.root / found["repo"]).is_dir():
            self.refuse(404, "RepoNotFound")
            return False
        if (found["revision"] or "main") not in REVISIONS:
            self.refuse(404, "RevisionNotFound")
            return False
        return True

    def info(self, found: re.Match[str]) -> None:
        names = sorted(file.name for file in (self.root / found["repo"]).iterdir())
        self.answer(
            {
                "_id": "1",
                "id": found["repo"],
                "modelId": found["repo"],
                "sha": COMMIT,
                "private": False,
                "gated": False,
                "disabled": False,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "cardData": {"license": "apache-2.0"},
                "siblings": [{"rfilename": name} for name in names],
            }
        )

    def tree(self, found: re.Match[str]) -> None:
        self.answer([self.entry(found["repo"], file.name) for file in (self.root / found["repo"]).iterdir()])

    def entry(self, repo: str, name: str) -> dict[str, object]:
        path = self.root / repo / name
        return {
            "type": "file",
            "path": name,
            "size": path.stat().st_size,
            "oid": hashlib.sha1(name.encode()).hexdigest(),
        }

    def file(self, found: re.Match[str]) -> None:
        path = self.root / found["repo"] / found["file"]
        if not path.is_file():
            self.refuse(404, "EntryNotFound")
            return
        size = path.stat().st_size
        wanted = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        first = int(wanted[1]) if wanted else 0
        last = min(int(wanted[2]) if wanted and wanted[2] else size - 1, size - 1)
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{hashlib.sha1(str(path).encode()).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        if self.command != "HEAD":
            with path.open("rb") as file:
                file.seek(first)
                self.wfile.write(file.read(last - first + 1))

    def answer(self, value: object, status: int = 200, error: str = "") -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, error: str) -> None:
        self.answer({"error": error}, status, error)


@contextmanager
def serving(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Address of the hub and the list of its requests."""
    handler = type("Bound", (Handler,), {"root": root, "requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", handler.requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
