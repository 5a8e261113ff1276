"""lm-eval's model that is a process in another environment: requests go over pipes, as token ids."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs
from score_common import Refusal

CHUNK = 16
"""Rows that are asked at once."""
ANSWERS = {"cuda": 16, "cpu": 1}
"""Prompts that are answered at once: on a CPU a batch gains nothing, and padding may change a last digit."""
SAID_S = 5.0
"""Between two lines of progress."""


class Voice:
    """The process. Its end of the pipe closing ends it, so nobody is left behind."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")
        self.facts: dict[str, Any] = self._heard()

    def ask(self, op: str, **given: Any) -> Any:
        """One request. Raises Refusal with what the model's process says."""
        assert self.process.stdin is not None
        try:
            print(json.dumps({"op": op, **given}), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            raise Refusal("the model's process ended") from None
        return self._heard()

    def _heard(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise Refusal(f"the model's process ended (exit code {self.process.wait()})")
        said = json.loads(line)
        if "refused" in said:
            raise Refusal(said["refused"])
        return said["ok"]

    def __enter__(self) -> Voice:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=10.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Remote(TemplateLM):
    """What lm-eval asks, put to the process."""

    def __init__(self, voice: Voice, given: argparse.Namespace, picked: Mapping[str, list[int]]) -> None:
        super().__init__()
        self.voice, self.given, self.facts, self.picked = voice, given, voice.facts, picked
        self.sample = 0
        self.said: dict[tuple[str, int], dict[str, Any]] = {}
        self.cut = {"prompts": 0, "answers": 0}
        own = self.facts["context"]
        self.max_length = int(min(given.context or own, own) if own else given.context or 2048)
        self.batch = given.batch or ANSWERS["cuda" if str(self.facts["device"]).startswith("cuda") else "cpu"]

    @property
    def chats(self) -> bool:
        """Whether tasks are asked through the chat template: where that is wanted and there is one."""
        return bool(self.given.chat and self.facts["chat_template"])

    @property
    def eot_token_id(self) -> int:
        return int(self.facts["eos"] if self.facts["eos"] is not None else 0)

    @property
    def prefix_token_id(self) -> int:
        return int(self.facts["bos"]) if self.facts["bos"] is not None else self.eot_token_id

    @property
    def tokenizer_name(self) -> str:
        return str(self.given.model)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        return str(self.facts["chat_template"]) if chat_template else None

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return str(self.voice.ask("chat", messages=chat_history, open=add_generation_prompt))

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        return list(self.voice.ask("encode", texts=[string], special=add_special_tokens)[0])

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        """An option that its prompt's last token holds already costs nothing, as in lm-eval's own models."""
        rows = [self._row(context, continuation) for _, context, continuation in requests]
        asked = [place for place, (ids, first) in enumerate(rows) if first < len(ids)]
        found = [(0.0, True)] * len(rows)
        progress = Progress("options", len(asked))
        for start in range(0, len(asked), CHUNK):
            part = asked[start : start + CHUNK]
            for place, each in zip(part, self.voice.ask("score", rows=[rows[one] for one in part]), strict=True):
                found[place] = (each[0], each[1])
            progress.at(start + len(part))
        return found

    def _row(self, context: list[int], continuation: list[int]) -> tuple[list[int], int]:
        """Context and continuation, the context cut from its left as lm-eval's own models cut it."""
        if len(continuation) > self.max_length:
            raise Refusal(f"an option of {len(continuation)} tokens cannot be scored in {self.max_length}")
        ids = (context + continuation)[-(self.max_length + 1) :]
        self.cut["prompts"] += len(ids) < len(context) + len(continuation)
        return ids, len(ids) - len(continuation)

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        raise Refusal("perplexities of texts are measured by the statistics of tokens, not by tasks")

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        progress, found = Progress("answers", len(requests)), []
        texts = [request.args[0] for request in requests]
        prompts = [ids for start in range(0, len(texts), CHUNK)
                   for ids in self.voice.ask("encode", texts=texts[start : start + CHUNK], special=None)]  # fmt: skip
        for start in range(0, len(requests), self.batch):
            part = slice(start, start + self.batch)
            found += self._answered(requests[part], prompts[part])
            progress.at(len(found))
        return found

    def _answered(self, requests: list[Instance], prompts: list[list[int]]) -> list[str]:
        """A batch of prompts whose stop texts are the same; others one by one."""
        wanted = [normalize_gen_kwargs(request.args[1], self.given.answer_tokens) for request in requests]
        if any(each["until"] != wanted[0]["until"] for each in wanted):
            return [self._answered([one], [ids])[0] for one, ids in zip(requests, prompts, strict=True)]
        fed = [self._room(ids, int(each["max_gen_toks"])) for ids, each in zip(prompts, wanted, strict=True)]
        made = self.voice.ask(
            "answer", prompts=[ids for ids, _, _ in fed], until=wanted[0]["until"],
            max_tokens=[most for _, most, _ in fed], temperature=self.given.temperature, top_p=self.given.top_p,
            top_k=self.given.top_k, seeds=[self._seed(request) for request in requests],
        )  # fmt: skip
        for request, answer, (_, _, faults) in zip(requests, made, fed, strict=True):
            self.said[self._key(request)] = answer | {"faults": faults}
        return [str(each["text"]) for each in made]

    def _room(self, ids: list[int], most: int) -> tuple[list[int], int, list[str]]:
        """A prompt, the tokens of its answer, and what had to be cut: half of the context is the prompt's at least."""
        kept = ids[-max(self.max_length - most, self.max_length // 2) :]
        left = min(most, self.max_length - len(kept))
        faults = []
        if len(kept) < len(ids):
            self.cut["prompts"] += 1
            faults.append(f"the prompt's first {len(ids) - len(kept)} tokens do not fit {self.max_length}")
        if left < most:
            self.cut["answers"] += 1
        return kept, left, faults

    def _key(self, request: Instance) -> tuple[str, int]:
        """The task and the document by its place in the whole data; lm-eval counts those that were picked."""
        return request.task_name, self.picked[request.task_name][request.doc_id]

    def _seed(self, request: Instance) -> list[int]:
        """Of one answer: the same for both sides, another for each document and each sample."""
        task, document = self._key(request)
        return [self.given.seed, self.sample, zlib.crc32(task.encode()), document]


class Progress:
    """Rate and time left, on standard error."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.began, self.last = what, total, time.monotonic(), 0.0

    def at(self, done: int) -> None:
        now = time.monotonic() - self.began
        if now - self.last >= SAID_S or done == self.total:
            self.last, rate = now, done / max(now, 1e-9)
            left = (self.total - done) / max(rate, 1e-9)
            print(f"{done} of {self.total} {self.what}, {rate:.3g} a second, {left:.0f} s left", file=sys.stderr)
