"""An OpenAI client that keeps time: streamed completions, each with the moments of its first and last token.

Open loads are due at scheduled moments, and times are counted from those, not from when the client got around to
sending: a client or server that falls behind shows as waiting, never as fewer requests. Clocks are monotonic. Imports
nothing of ours.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

LONGEST_LINE = 2**20
"""Bytes of one event: more is no answer of a completion."""


class Asked(Protocol):
    """What `serve_load` makes."""

    @property
    def due(self) -> float: ...

    @property
    def prompt(self) -> list[int]: ...

    @property
    def output(self) -> int: ...


@dataclass(kw_only=True)
class Answer:
    """One request's moments in seconds from the beginning of its run; tokens as the server counted them."""

    due: float
    sent: float = 0.0
    first: float = 0.0
    last: float = 0.0
    prompt: int = 0
    output: int = 0
    error: str = ""


@dataclass(kw_only=True)
class Run:
    """What one load came to."""

    answers: list[Answer] = field(default_factory=list)
    seconds: float = 0.0
    """From the beginning to the last answer."""


class Broken(Exception):
    """An answer that is none, in a few words."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """Whom to ask."""

    address: str
    model: str
    timeout_s: float
    """Of one answer, from when it was sent."""


def drive(server: Server, asks: Sequence[Asked], users: int = 0) -> Run:
    """Send everything when it is due, or as `users` who wait for their answers. Errors are answers too."""
    return asyncio.run(_driven(server, asks, users))


async def _driven(server: Server, asks: Sequence[Asked], users: int) -> Run:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=None, trust_env=False) as client:  # noqa: S113 - ours bounds the whole
        begin = time.monotonic()
        talk = _Talk(client=client, server=server, begin=begin)
        answers = await (_closed(talk, iter(asks), users) if users else _open(talk, asks))
        return Run(answers=answers, seconds=time.monotonic() - begin)


@dataclass(frozen=True, kw_only=True)
class _Talk:
    client: httpx.AsyncClient
    server: Server
    begin: float

    def now(self) -> float:
        return time.monotonic() - self.begin


async def _open(talk: _Talk, asks: Sequence[Asked]) -> list[Answer]:
    tasks = []
    for ask in sorted(asks, key=lambda each: each.due):
        await asyncio.sleep(max(ask.due - talk.now(), 0.0))
        tasks.append(asyncio.create_task(_answer(talk, ask, ask.due)))
    return list(await asyncio.gather(*tasks))


async def _closed(talk: _Talk, asks: Iterator[Asked], users: int) -> list[Answer]:
    """Users take from one queue; nobody thinks in between."""

    async def user() -> list[Answer]:
        return [await _answer(talk, ask, talk.now()) for ask in asks]

    return [answer for each in await asyncio.gather(*(user() for _ in range(users))) for answer in each]


async def _answer(talk: _Talk, ask: Asked, due: float) -> Answer:
    """Never raises: what goes wrong is the answer's error."""
    answer = Answer(due=due, sent=talk.now())
    try:
        async with asyncio.timeout(talk.server.timeout_s):
            await _streamed(talk, ask, answer)
    except TimeoutError:
        answer.error = f"no end within {talk.server.timeout_s:g} s"
    except httpx.HTTPError as fault:
        answer.error = type(fault).__name__
    except Broken as fault:
        answer.error = str(fault)
    return answer


async def _streamed(talk: _Talk, ask: Asked, answer: Answer) -> None:
    body = {
        "model": talk.server.model, "prompt": ask.prompt, "max_tokens": ask.output, "temperature": 0.0,
        "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    async with talk.client.stream("POST", f"{talk.server.address}/v1/completions", json=body) as response:
        if response.status_code != httpx.codes.OK:
            raise Broken(f"HTTP {response.status_code}")
        usage = None
        async for event in _events(response):
            if event.get("choices"):
                answer.last = talk.now()
                answer.first = answer.first or answer.last
            usage = event.get("usage") or usage
    _count(answer, usage)


def _count(answer: Answer, usage: object) -> None:
    """Tokens as the server's usage says them."""
    if not answer.first:
        raise Broken("no token came")
    found = usage if isinstance(usage, dict) else {}
    prompt, output = (found.get(f"{name}_tokens") for name in ("prompt", "completion"))
    if not isinstance(output, int) or output < 1:
        raise Broken("no usage was reported")
    answer.prompt, answer.output = prompt if isinstance(prompt, int) else 0, output


async def _events(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """Server-sent events up to the one that says [DONE]. Raises Broken for anything else."""
    async for line in _lines(response):
        if not line.startswith(b"data:"):
            if line.strip() and not line.startswith((b":", b"event:", b"id:", b"retry:")):
                raise Broken("it sends no events")
            continue
        text = line[5:].strip()
        if text == b"[DONE]":
            return
        yield _event(text)
    raise Broken("the answer was cut off")


async def _lines(response: httpx.Response) -> AsyncIterator[bytes]:
    rest = b""
    async for block in response.aiter_bytes():
        *whole, rest = (rest + block).split(b"\n")
        if len(rest) > LONGEST_LINE:
            raise Broken("an event without end")
        for line in whole:
            yield line


def _event(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        raise Broken("an event that is no JSON") from None
    if not isinstance(found, dict):
        raise Broken("an event that is no object")
    if "error" in found:
        raise Broken("an error within the answer")
    return found
