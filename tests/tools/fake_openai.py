"""A small OpenAI server with known delays, and every way to go wrong. Takes the words of llama-server and of vLLM.

usage: fake_openai.py [anything …] --host HOST --port PORT, with the delays and the misbehaviour in FAKE (a JSON object)

first_s, token_s: seconds until the first token and between tokens. slots: requests at once; others wait. jitter: the
first token takes first_s times an exponential number. start_s: seconds until it is healthy, spin_s: at work. wrong:
die, taken, starve, hang, http500, garbage, cut, endless, no_usage, die_under_load, child (starts a process of its own
session).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

DEFAULTS: dict[str, Any] = {
    "first_s": 0.02, "token_s": 0.002, "slots": 1000, "jitter": False, "start_s": 0.0, "spin_s": 0.0, "wrong": "",
    "after": 5, "record": "",
}  # fmt: skip
TOLD = {
    "die": "RuntimeError: Engine core initialization failed.",
    "taken": "start: couldn't bind HTTP server socket, hostname: 127.0.0.1",
    "starve": "RuntimeError: unable to allocate CPU buffer of size 1e12",
}


class Fake:
    def __init__(self, own: dict[str, Any]) -> None:
        self.own, self.slots = own, asyncio.Semaphore(own["slots"])
        self.began, self.seen, self.chance = time.monotonic(), 0, random.Random(0)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                sizes = [
                    line.split(":")[1] for line in head.split("\r\n") if line.lower().startswith("content-length:")
                ]
                body = await reader.readexactly(int(sizes[0]) if sizes else 0)
                await self.answer(head.split()[1], body, writer)
                await writer.drain()
        writer.close()

    async def answer(self, path: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        if path == "/health":
            up = self.own["wrong"] != "hang" and time.monotonic() - self.began >= self.own["start_s"]
            writer.write(plain(200 if up else 503, b"{}"))
            return
        if not body:  # whatever else clients of the field look at
            writer.write(plain(404, b"{}"))
            return
        self.seen += 1
        asked = json.loads(body)
        self.record(asked)
        wrong = self.own["wrong"]
        if wrong == "die_under_load" and self.seen > self.own["after"]:
            os._exit(3)
        if wrong in ("http500", "garbage"):
            writer.write(plain(500, b"{}") if wrong == "http500" else plain(200, b"<html>what?</html>\n"))
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        async with self.slots:
            await self.tokens(asked, writer, wrong)

    async def tokens(self, asked: dict[str, Any], writer: asyncio.StreamWriter, wrong: str) -> None:
        first = self.own["first_s"] * (self.chance.expovariate(1.0) if self.own["jitter"] else 1.0)
        await asyncio.sleep(first)
        for at in range(asked["max_tokens"]):
            await asyncio.sleep(self.own["token_s"] if at else 0)
            event(writer, {"choices": [{"text": "x"}]})
            await writer.drain()
            if wrong == "cut" and at == 1:
                writer.write(b"0\r\n\r\n")
                return
        if wrong == "endless":
            chunk(writer, b"data: " + b"x" * 2_000_000)
            await writer.drain()
            await asyncio.sleep(3600)
        if wrong != "no_usage":
            usage = {"prompt_tokens": len(asked["prompt"]), "completion_tokens": asked["max_tokens"]}
            event(writer, {"choices": [], "usage": usage})
        chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")

    def record(self, asked: dict[str, Any]) -> None:
        if self.own["record"]:
            row = {"at": time.monotonic(), "prompt": asked["prompt"], "output": asked["max_tokens"]}
            with open(self.own["record"], "a") as stream:
                stream.write(json.dumps(row) + "\n")


def plain(code: int, body: bytes) -> bytes:
    return f"HTTP/1.1 {code} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def event(writer: asyncio.StreamWriter, what: dict[str, Any]) -> None:
    chunk(writer, b"data: " + json.dumps(what).encode() + b"\n\n")


def chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


async def serve(own: dict[str, Any], host: str, port: int) -> None:
    server = await asyncio.start_server(Fake(own).talk, host, port, limit=2**26)
    print("fake server is listening", flush=True)
    await server.serve_forever()


def main(words: list[str]) -> int:
    own = DEFAULTS | json.loads(os.environ.get("FAKE", "{}"))
    if own["wrong"] in TOLD:
        print(TOLD[own["wrong"]], file=sys.stderr)
        return 1
    if own["wrong"] == "child":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    if own["spin_s"]:
        spin = f"import time; end = time.monotonic() + {own['spin_s']}\nwhile time.monotonic() < end: pass"
        subprocess.Popen([sys.executable, "-c", spin])
    given = dict(word.removeprefix("--").split("=", 1) for word in words if word.startswith("--") and "=" in word)
    given |= {name[2:]: value for name, value in itertools.pairwise(words) if name in ("--host", "--port")}
    asyncio.run(serve(own, given["host"], int(given["port"])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
