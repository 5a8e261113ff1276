"""A load of ours driven by a tool of the field, which replays it: guidellm, or `vllm bench serve`.

The schedule is `serve_load`'s: one line for each request with the moment it is due and its lengths, written as the
trace that the tool replays. Prompts are the tool's own: blocks with a number, the same block wherever the number is the
same, so that block 0 is the prefix that all share. What the tool saw of each request comes back as an answer of
`serve_client`. Open loads begin with one request more, `LEAD_S` before the others and not counted, for which the tool
opens its connections. The tool runs under a guard of its own and leaves nobody. Imports nothing of ours but its own
parts.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from serve_client import Answer, Asked, Run
from serve_client import Server as Whom
from serve_process import GRACE_S, GUARD, Failed, Server

LEAD_S = 2.0
"""Between the request that is not counted and the beginning of the schedule (assumed)."""
STARTING_S = 300.0
"""A tool may take so long to start, and to write what it saw (assumed; 15 to 60 s were seen on two busy cores)."""
TICK_S = 0.1
TAIL_BYTES = 1500
LONGEST_ERROR = 100
LEAST_BLOCK = 4
"""Tokens: with the mark that a tokenizer may put first, three are left to be drawn (assumed; one was too few)."""
PART = 1_000_000
"""Blocks of one repeat have numbers above so many times the repeat's: repeats share nothing but the prefix."""
RATE_EACH, USERS_EACH = 50.0, 64
"""What one process of guidellm sends, in requests/s or for users (assumed): its own default is ten processes."""
FAILED = "load tool failed"


@dataclass(kw_only=True)
class Tool:
    """Who drives, and what it left."""

    id: str
    """guidellm or vllm-bench."""
    program: Path
    tokenizer: str
    """The model's own: a folder."""
    out: Path
    """Traces, results and logs, one of each for every repeat."""
    prefix: int = 0
    """Tokens that all prompts share."""
    counted: bool = True
    """Whether the engine reports tokens where the tool reads them; else answers have the length that was asked."""
    commands: list[list[str]] = field(default_factory=list)
    planned: list[tuple[int, int]] = field(default_factory=list)
    """Lengths of prompt and answer of everything that was asked."""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        prompt, output = (float(np.mean(each)) for each in zip(*self.planned, strict=True))
        return {"id": self.id, "commands": self.commands, "prompt_tokens": prompt, "output_tokens": output}


def drive(tool: Tool, server: Server, whom: Whom, asks: Sequence[Asked], load: tuple[int, int]) -> Run:
    """Replay one repeat; `load` = users (0: an open load), and which repeat it is. Raises Failed."""
    users, part = load
    tool.out.mkdir(exist_ok=True)
    paths = {kind: tool.out / f"{part}.{kind}" for kind in ("jsonl", "json", "log")}
    rows = list(trace(tool, asks, users, part))
    paths["jsonl"].write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = WORDS[tool.id](tool, whom, rows, (users, part))
    tool.commands.append([tool.program.name, *words])
    tool.planned += [(len(ask.prompt), ask.output) for ask in asks]
    last = max(ask.due for ask in asks)
    waves = -(-len(asks) // users) if users else 1
    count = 1 + (users // USERS_EACH if users else int(len(asks) / max(last, LEAD_S) / RATE_EACH))
    _carry(tool, words, (server, paths["log"], STARTING_S + last + waves * whom.timeout_s), count)
    try:
        found = ANSWERS[tool.id](tool, json.loads(paths["json"].read_text()), rows, users)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as fault:
        raise Failed(FAILED, f"what {tool.id} wrote cannot be read: {type(fault).__name__}: {fault}") from None
    if not found:
        raise Failed(FAILED, f"{tool.id} sent nothing; its log ends: {tail(paths['log'])}")
    found += [Answer(due=0.0, error=f"{tool.id} tells nothing of it") for _ in range(len(asks) - len(found))]
    return Run(answers=found, seconds=max(max(each.last, each.sent) for each in found))


def trace(tool: Tool, asks: Sequence[Asked], users: int, part: int) -> Iterator[dict[str, Any]]:
    """A row for each request, in the order in which they are due."""
    fresh = itertools.count(1 + part * PART)
    if opened(tool, users):
        first = _length(tool, min(tool.prefix + LEAST_BLOCK, max(len(ask.prompt) for ask in asks)))
        ids = _blocks(first, tool.prefix, fresh)
        yield {"timestamp": 0.0, "input_length": first, "output_length": 1, "hash_ids": ids}
    lead = 0.0 if users else LEAD_S
    for ask in sorted(asks, key=lambda each: each.due):
        length = _length(tool, len(ask.prompt))
        yield {
            "timestamp": lead + ask.due, "input_length": length, "output_length": ask.output,
            "hash_ids": _blocks(length, tool.prefix, fresh),
        }  # fmt: skip


def block(tool: Tool, rows: Sequence[dict[str, Any]]) -> int:
    """Tokens of a block: the shared prefix is one, and where there is none each prompt is one."""
    return tool.prefix or max(row["input_length"] for row in rows)


def opened(tool: Tool, users: int) -> bool:
    """Whether a request goes before the others: which it was cannot be told of guidellm's users."""
    return tool.id == "vllm-bench" or not users


def _length(tool: Tool, length: int) -> int:
    """Tokens of a prompt: guidellm leaves out a request whose last block is too short to be unlike all others."""
    shares = tool.prefix and length >= tool.prefix
    own = length % tool.prefix if shares else length
    if tool.id != "guidellm" or not 0 < own < LEAST_BLOCK:
        return length
    return length - own if shares else LEAST_BLOCK


def _blocks(length: int, prefix: int, fresh: Iterator[int]) -> list[int]:
    """Numbers of a prompt's blocks; one that is shorter than the prefix shares nothing."""
    if not prefix or length < prefix:
        return [next(fresh)]
    return [0, *(next(fresh) for _ in range(-(-(length - prefix) // prefix)))]


def _guidellm(tool: Tool, whom: Whom, rows: Sequence[dict[str, Any]], load: tuple[int, int]) -> list[str]:
    users, part = load
    backend = {
        "kind": "openai_http", "target": whom.address, "model": whom.model, "request_format": "/v1/completions",
        "timeout": whom.timeout_s, "extras": {"body": {"temperature": 0.0}},
    }  # fmt: skip
    data = {
        "kind": "mooncake", "source": {"kind": "json_file", "path": f"{tool.out}/{part}.jsonl"},
        "hash_id_block_size": block(tool, rows),
    }  # fmt: skip
    profile: dict[str, Any] = {"kind": "replay", "schedule_turn": "timestamp"}
    return [
        "run", "--backend", json.dumps(backend),
        "--profile", json.dumps({"kind": "concurrent", "streams": [users]} if users else profile),
        "--tokenizer", json.dumps({"kind": "huggingface_auto", "model": tool.tokenizer}),
        "--data", json.dumps(data), "--constraint", json.dumps({"kind": "max_requests", "count": len(rows)}),
        "--seed", json.dumps({"kind": "static", "value": part}),
        "--output", json.dumps({"kind": "json", "path": f"{tool.out}/{part}.json"}), "--disable-console",
    ]  # fmt: skip


def _vllm(tool: Tool, whom: Whom, rows: Sequence[dict[str, Any]], load: tuple[int, int]) -> list[str]:
    users, part = load
    pace = ["--no-self-timed", "--request-rate", "inf", "--max-concurrency", str(users)] if users else ["--self-timed"]
    return [
        "bench", "serve", "--backend", "openai", "--base-url", whom.address, "--endpoint", "/v1/completions",
        "--model", whom.model, "--tokenizer", tool.tokenizer, "--dataset-name", "timed_trace",
        "--dataset-path", f"{tool.out}/{part}.jsonl", "--timed-trace-chunk-hash-size", str(block(tool, rows)),
        "--timed-trace-label-timestamp", "timestamp", "--num-prompts", str(len(rows)), *pace, "--ignore-eos",
        "--temperature", "0", "--save-result", "--save-detailed", "--result-dir", str(tool.out),
        "--result-filename", f"{part}.json", "--disable-tqdm", "--header", "Connection=close",
    ]  # fmt: skip


WORDS = {"guidellm": _guidellm, "vllm-bench": _vllm}


def _carry(tool: Tool, words: list[str], about: tuple[Server, Path, float], count: int) -> None:
    """Run the tool to its end. Raises Failed where it, or the server, ends otherwise."""
    server, log, patience = about
    end = time.monotonic() + patience
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD), str(tool.program), *words],
            stdin=subprocess.PIPE, stdout=stream, stderr=subprocess.STDOUT, env={**os.environ, **environment(count)},
            start_new_session=True,
        )  # fmt: skip
    try:
        while process.poll() is None:
            server.alive()
            if time.monotonic() > end:
                raise Failed(FAILED, f"{tool.id} did not end within {patience:.0f} s; its log ends: {tail(log)}")
            time.sleep(TICK_S)
    finally:
        _end(process)
    if process.returncode:
        raise Failed(FAILED, f"{tool.id} ended with exit code {process.returncode}; its log ends: {tail(log)}")


def environment(count: int) -> dict[str, str]:
    """Fetches nothing, reports nothing, asks no proxy; one seed for the hashes that vLLM makes prompts from. guidellm
    ends where no result came for so many seconds after the last: its own 0.1 lost one on a busy machine."""
    return {
        "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "NO_PROXY": "*", "no_proxy": "*",
        "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "PYTHONHASHSEED": "0",
        "GUIDELLM__MAX_WORKER_PROCESSES": str(count), "GUIDELLM__MP_POLL_INTERVAL": "2",
    }  # fmt: skip


def _end(process: subprocess.Popen[bytes]) -> None:
    """The guard ends the tool with all that it started once its pipe is closed."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
    if process.poll() is None:
        process.kill()


def tail(log: Path) -> str:
    """The end of its log."""
    return log.read_bytes()[-TAIL_BYTES:].decode(errors="replace").strip() or "it printed nothing"


def _guidellm_answers(tool: Tool, found: dict[str, Any], rows: Sequence[dict[str, Any]], users: int) -> list[Answer]:
    """Requests of the only benchmark. It keeps the moment at which each was to start; between users there is none."""
    parts = found["benchmarks"][0]["requests"]
    all_ = [each for kind in ("successful", "errored", "incomplete") for each in parts[kind] or ()]
    begin = _begin([each["info"] for each in all_], users)
    made = []
    for each in all_:
        info = each["info"]
        due = info["settings"]["relative_timestamp"]
        if users or due:
            made.append(_guidellm_answer(each, begin, None if users else due - LEAD_S))
    return made


def _begin(infos: Sequence[dict[str, Any]], users: int) -> float:
    """When the schedule began, by guidellm's clock; for users the first request."""
    if users:
        return min(float(info["timings"]["request_start"]) for info in infos if info["timings"]["request_start"])
    info = next(info for info in infos if info["timings"]["targeted_start"])
    return float(info["timings"]["targeted_start"] - info["settings"]["relative_timestamp"] + LEAD_S)


def _guidellm_answer(row: dict[str, Any], begin: float, due: float | None) -> Answer:
    times, error = row["info"]["timings"], row["info"]["error"] or ""
    sent = (times["request_start"] or times["targeted_start"] or begin) - begin
    answer = Answer(due=sent if due is None else due, sent=sent)
    first, last = times["first_token_iteration"], times["last_token_iteration"]
    if row["info"]["status"] != "completed" or first is None or not row.get("output_tokens"):
        answer.error = _short(error) or ("no token came" if first is None else row["info"]["status"])
        return answer
    answer.first, answer.last = first - begin, last - begin
    answer.prompt, answer.output = row["prompt_tokens"] or 0, row["output_tokens"]
    return answer


def _vllm_answers(tool: Tool, found: dict[str, Any], rows: Sequence[dict[str, Any]], users: int) -> list[Answer]:
    """Requests in the order of the trace. When it began is not told: it is the latest moment that leaves nobody early,
    so that lags count from the promptest request."""
    starts, due = found["start_times"], [row["timestamp"] for row in rows]
    begin = min(starts[1:]) if users else min(at - to for at, to in zip(starts, due, strict=True)) + LEAD_S
    made = []
    for place, row in enumerate(rows):
        sent = starts[place] - begin
        answer = Answer(due=sent if users else due[place] - LEAD_S, sent=sent)
        answer.error = _short(found["errors"][place]) or ("" if found["ttfts"][place] else "no token came")
        if not answer.error:
            answer.first = sent + found["ttfts"][place]
            answer.last = answer.first + sum(found["itls"][place])
            answer.prompt = found["input_lens"][place]
            answer.output = found["output_lens"][place] if tool.counted else row["output_length"]
        made.append(answer)
    return made[1:]


ANSWERS = {"guidellm": _guidellm_answers, "vllm-bench": _vllm_answers}


def _short(error: str) -> str:
    """The last line of a traceback: what happened."""
    lines = error.strip().splitlines()
    return lines[-1].strip()[:LONGEST_ERROR] if lines else ""
