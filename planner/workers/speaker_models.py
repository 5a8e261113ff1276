"""Models that score continuations and answer prompts: transformers for folders, llama.cpp's library for GGUF files."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from answer_models import DAY
from score_common import Refusal
from score_models import BATCH, GgufTokens, HubTokens, Transformers, log_softmax, open_gguf
from speaker_sampling import Reading, Sampler

Row = tuple[list[int], int]
"""Token ids, and the place of the first one that is scored."""


class Speaker(Protocol):
    """What both backends do."""

    def facts(self) -> dict[str, Any]: ...

    def encode(self, text: str, special: bool | None) -> list[int]: ...

    def chat(self, messages: list[dict[str, Any]], *, begins: bool) -> str: ...

    def score(self, rows: Sequence[Row]) -> list[tuple[float, bool]]: ...

    def answer(self, prompts: list[list[int]], given: dict[str, Any]) -> list[dict[str, Any]]: ...


class Folder:
    """A model folder, as transformers runs it; answers through transformers' own `generate`."""

    def __init__(self, path: Path, args: argparse.Namespace) -> None:
        self.base = Transformers(path, args)
        self.torch, self.model = self.base.torch, self.base.model
        self.tokens = HubTokens(path)
        self.own = self.tokens.own
        self.ends = self._ends()
        from transformers import GenerationConfig

        pad = self.own.pad_token_id if self.own.pad_token_id is not None else (self.ends or [0])[0]
        self.model.generation_config = GenerationConfig(
            do_sample=False, eos_token_id=self.ends or None, pad_token_id=pad
        )
        self.pad = pad

    def _ends(self) -> list[int]:
        """Tokens that end an answer: of generation_config.json, and the tokenizer's."""
        stated = getattr(self.model.generation_config, "eos_token_id", None)
        found = stated if isinstance(stated, list) else [stated]
        return sorted({each for each in (*found, self.own.eos_token_id) if each is not None})

    def facts(self) -> dict[str, Any]:
        config = self.model.config.get_text_config()
        return self.base.facts() | {
            "vocabulary": self.base.vocabulary,
            "context": getattr(config, "max_position_embeddings", None),
            "bos": self.own.bos_token_id,
            "eos": self.own.eos_token_id,
            "chat_template": template_of(self.own.chat_template),
        }

    def encode(self, text: str, special: bool | None) -> list[int]:
        if special is None:
            special = not (self.own.bos_token and text.startswith(self.own.bos_token))
        return list(self.own(text, add_special_tokens=special, verbose=False)["input_ids"])

    def chat(self, messages: list[dict[str, Any]], *, begins: bool) -> str:
        made: str = self.own.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=begins, continue_final_message=not begins,
            strftime_now=DAY.strftime,
        )  # fmt: skip
        return made

    def score(self, rows: Sequence[Row]) -> list[tuple[float, bool]]:
        """One pass for each distinct input: options of one token each share theirs."""
        passes: dict[tuple[int, ...], list[int]] = {}
        for place, (ids, _) in enumerate(rows):
            passes.setdefault(tuple(ids[:-1]), []).append(place)
        found: dict[int, tuple[float, bool]] = {}
        for fed, places in passes.items():
            first = min(rows[place][1] for place in places)
            logprobs = self._logprobs(list(fed), first - 1)
            for place in places:
                ids, start = rows[place]
                found[place] = summed(logprobs[start - first :], ids[start:])
        return [found[place] for place in range(len(rows))]

    def _logprobs(self, fed: list[int], first: int) -> Any:
        """Rows of log-probabilities from position `first` on."""
        with self.torch.inference_mode():
            ids = self.torch.tensor([fed], device=self.base.device)
            logits = self.model(input_ids=ids, use_cache=False).logits[0, first:]
            return self.torch.log_softmax(logits.float(), -1).cpu().numpy()

    def answer(self, prompts: list[list[int]], given: dict[str, Any]) -> list[dict[str, Any]]:
        from transformers import LogitsProcessorList, StoppingCriteriaList

        width = max(map(len, prompts))
        ids = [[self.pad] * (width - len(each)) + each for each in prompts]
        mask = [[0] * (width - len(each)) + [1] * len(each) for each in prompts]
        readings = [Reading(given["until"], most, self._text) for most in given["max_tokens"]]
        sampler = Sampler(given)

        def ended(fed: Any, _: Any, **__: Any) -> Any:
            done = [each.reads(row) for each, row in zip(readings, fed[:, width:].tolist(), strict=True)]
            return self.torch.tensor(done, device=fed.device)

        def drawn(_: Any, scores: Any) -> Any:
            rows = sampler.rows(scores.float().cpu().numpy())
            made = self.torch.full_like(scores, float("-inf"))
            made[range(len(rows)), rows] = 0.0
            return made

        with self.torch.inference_mode():
            made = self.model.generate(
                self.torch.tensor(ids, device=self.base.device),
                attention_mask=self.torch.tensor(mask, device=self.base.device),
                max_new_tokens=max(given["max_tokens"]),
                stopping_criteria=StoppingCriteriaList([ended]),
                logits_processor=LogitsProcessorList([drawn] if sampler.temperature else []),
            )
        rows = made[:, width:].tolist()
        return [each.result(row, self.ends) for each, row in zip(readings, rows, strict=True)]

    def _text(self, ids: list[int]) -> str:
        return str(self.own.decode(ids, skip_special_tokens=True))


class Gguf:
    """A GGUF file through llama.cpp's library, a token or a batch of them at a time.

    What two prompts in a row have in common stays in the cache, as llama-server keeps it.
    """

    def __init__(self, path: Path, args: argparse.Namespace) -> None:
        self.threads = args.threads or os.cpu_count() or 1
        self.tokens = GgufTokens(path)
        self.api, self.model = open_gguf(path, layers=0 if args.device == "cpu" else 999)
        self.vocab = self.api.llama_model_get_vocab(self.model)
        self.vocabulary = self.api.llama_vocab_n_tokens(self.vocab)
        self.context: Any = None
        self.room = 0
        self.held: list[int] = []

    def facts(self) -> dict[str, Any]:
        from importlib.metadata import version

        bos, eos = (get(self.vocab) for get in (self.api.llama_vocab_bos, self.api.llama_vocab_eos))
        template = self.api.llama_model_chat_template(self.model, None)
        return {
            "device": self.api.llama_print_system_info().decode(),
            "dtype": "the file's",
            "versions": {name: version(name) for name in ("llama_cpp_python", "numpy")},
            "vocabulary": self.vocabulary,
            "context": self.api.llama_model_n_ctx_train(self.model),
            "bos": bos if bos >= 0 else None,
            "eos": eos if eos >= 0 else None,
            "chat_template": template.decode() if template else None,
        }

    def encode(self, text: str, special: bool | None) -> list[int]:
        data = text.encode()
        ids = (self.api.llama_token * (len(data) + 8))()
        begin = self._piece(self.api.llama_vocab_bos)
        added = not (begin and text.startswith(begin)) if special is None else special
        count = self.api.llama_tokenize(self.vocab, data, len(data), ids, len(ids), added, True)
        if count < 0:
            raise Refusal(f"llama.cpp could not tokenize a text of {len(data)} bytes")
        return list(ids[:count])

    def _piece(self, get: Any) -> str:
        token = get(self.vocab)
        return self.api.llama_vocab_get_text(self.vocab, token).decode() if token >= 0 else ""

    def chat(self, messages: list[dict[str, Any]], *, begins: bool) -> str:
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        template = self.api.llama_model_chat_template(self.model, None)
        if not template:
            raise Refusal("the GGUF file has no chat template")
        begin, end = self._piece(self.api.llama_vocab_bos), self._piece(self.api.llama_vocab_eos)
        turn = Jinja2ChatFormatter(template.decode(), end, begin, add_generation_prompt=begins)
        turn.strftime_now = DAY.strftime
        text: str = turn(messages=messages).prompt
        return text if begins else continued(text, str(messages[-1]["content"]))

    def score(self, rows: Sequence[Row]) -> list[tuple[float, bool]]:
        return [summed(log_softmax(self._logits(ids[:-1], first - 1)), ids[first:]) for ids, first in rows]

    def answer(self, prompts: list[list[int]], given: dict[str, Any]) -> list[dict[str, Any]]:
        sampler = Sampler(given)
        found = []
        for place, prompt in enumerate(prompts):
            reading = Reading(given["until"], given["max_tokens"][place], self._text)
            made: list[int] = []
            self._opened(len(prompt) + given["max_tokens"][place])
            while not made or not reading.reads(made):
                logits = self._logits([*prompt, *made], len(prompt) + len(made) - 1)
                token = int(sampler.one(logits[-1], place))
                made.append(token)
                if self.api.llama_vocab_is_eog(self.vocab, token):
                    break
            found.append(reading.result(made, [each for each in made[-1:] if self._ends(each)]))
        return found

    def _ends(self, token: int) -> bool:
        return bool(self.api.llama_vocab_is_eog(self.vocab, token))

    def _text(self, ids: list[int]) -> str:
        tokens = (self.api.llama_token * len(ids))(*ids)
        import ctypes

        room = 64 + 32 * len(ids)
        while True:
            made = ctypes.create_string_buffer(room)
            count = self.api.llama_detokenize(self.vocab, tokens, len(ids), made, room, False, False)
            if count >= 0:
                return made.raw[:count].decode(errors="replace")
            room = -count + 8

    def _logits(self, ids: list[int], first: int) -> Any:
        """Rows of logits from position `first` on; what the cache holds already is not decoded again."""
        self._opened(len(ids))
        start = self._kept(ids, first)
        batch = self.api.llama_batch_init(BATCH, 0, 1)
        found = []
        for begin in range(start, len(ids), BATCH):
            part = ids[begin : begin + BATCH]
            asked = self._decode(batch, part, (begin, first))
            if asked:
                read = np.ctypeslib.as_array(self.api.llama_get_logits(self.context), shape=(asked, self.vocabulary))
                found.append(read.copy())
        self.api.llama_batch_free(batch)
        self.held = list(ids)
        return np.concatenate(found)

    def _kept(self, ids: list[int], first: int) -> int:
        """How many ids the cache keeps: those it has in common, and none whose logits are wanted."""
        common = min(len(self.held), first)
        if self.held[:common] != ids[:common]:
            common = next(place for place in range(common) if self.held[place] != ids[place])
        memory = self.api.llama_get_memory(self.context)
        if common == 0 or not self.api.llama_memory_seq_rm(memory, 0, common, -1):
            self.api.llama_memory_clear(memory, True)
            return 0
        return common

    def _decode(self, batch: Any, ids: list[int], span: tuple[int, int]) -> int:
        start, first = span
        batch.n_tokens = len(ids)
        for place, token in enumerate(ids):
            batch.token[place], batch.pos[place] = token, start + place
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
            batch.logits[place] = start + place >= first
        code = self.api.llama_decode(self.context, batch)
        if code != 0:
            self.held = []
            raise Refusal(f"llama.cpp could not decode {len(ids)} tokens at place {start} (llama_decode: {code})")
        return sum(start + place >= first for place in range(len(ids)))

    def _opened(self, tokens: int) -> None:
        """A context with room for so many tokens: a larger one in place of a smaller one."""
        if tokens <= self.room:
            return
        if self.context is not None:
            self.api.llama_free(self.context)
        self.room, self.held = -(-max(tokens, BATCH) // 256) * 256, []
        given = self.api.llama_context_default_params()
        given.n_ctx, given.n_batch, given.n_ubatch = self.room, BATCH, BATCH
        given.n_threads = given.n_threads_batch = self.threads
        given.swa_full = True
        self.context = self.api.llama_init_from_model(self.model, given)
        if not self.context:
            raise Refusal(f"llama.cpp could not open a context of {self.room} tokens: too little memory?")


def summed(logprobs: Any, ids: list[int]) -> tuple[float, bool]:
    """The log-probability of ids, row by row, and whether each was the likeliest."""
    rows = logprobs[: len(ids)]
    picked = rows[np.arange(len(ids)), ids]
    return float(picked.sum(dtype=np.float64)), bool((rows.argmax(axis=1) == np.asarray(ids)).all())


def template_of(stated: Any) -> str | None:
    """One template of a tokenizer that may have several: the one called default."""
    return stated.get("default") if isinstance(stated, dict) else stated


def continued(text: str, last: str) -> str:
    """A chat up to the end of its last message, which the model goes on with."""
    place = text.rfind(last.strip())
    if place < 0:
        raise Refusal("the chat template does not hold its last message as it is: nothing can go on with it")
    return text[: place + len(last.strip())]
