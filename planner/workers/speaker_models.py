"""Models that score continuations and answer prompts: transformers for folders, llama.cpp's library for GGUF files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from answer_models import GgufTongue, HubAnswers, Tongue, summed
from answer_talk import Sampler
from score_common import Refusal
from score_models import BATCH, LlamaCpp, log_softmax
from speaker_sampling import Reading

Row = tuple[list[int], int]
"""Token ids, and the place of the first one that is scored."""


class Speaker(Protocol):
    """What both backends do."""

    tongue: Tongue

    def facts(self) -> dict[str, Any]: ...

    def encode(self, text: str, special: bool | None) -> list[int]:
        if special is None:
            begin = self.tongue.opening()
            special = not (begin and text.startswith(begin))
        return list(self.tongue.ids(text, special=special))

    def chat(self, messages: list[dict[str, Any]], *, begins: bool) -> str:
        text = self.tongue.chat(messages, begins=begins)
        if text is None:
            raise Refusal("the model has no chat template")
        return str(text)

    def score(self, rows: Sequence[Row]) -> list[tuple[float, bool]]: ...

    def answer(self, prompts: list[list[int]], given: dict[str, Any]) -> list[dict[str, Any]]: ...

    def text(self, ids: list[int]) -> str:
        return str(self.tongue.decode(ids, special=False))


class Folder(HubAnswers, Speaker):
    """A model folder, as transformers runs it; answers through transformers' own `generate`."""

    def __init__(self, path: Path, args: argparse.Namespace) -> None:
        super().__init__(path, args)
        from transformers import GenerationConfig

        own, ends = self.tongue.own, sorted(self.ends)
        self.pad = own.pad_token_id if own.pad_token_id is not None else (ends or [0])[0]
        self.model.generation_config = GenerationConfig(
            do_sample=False, eos_token_id=ends or None, pad_token_id=self.pad
        )

    def facts(self) -> dict[str, Any]:
        own = self.tongue.own
        return HubAnswers.facts(self) | {
            "vocabulary": self.vocabulary,
            "context": self.longest or None,
            "bos": own.bos_token_id,
            "eos": own.eos_token_id,
            "chat_template": template_of(own.chat_template),
        }

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
            ids = self.torch.tensor([fed], device=self.device)
            cache = self.cache.made()
            logits = self.model(input_ids=ids, past_key_values=cache, use_cache=cache is not None).logits[0, first:]
            return self.torch.log_softmax(logits.float(), -1).cpu().numpy()

    def answer(self, prompts: list[list[int]], given: dict[str, Any]) -> list[dict[str, Any]]:
        from transformers import LogitsProcessorList, StoppingCriteriaList

        width = max(map(len, prompts))
        ids = [[self.pad] * (width - len(each)) + each for each in prompts]
        mask = [[0] * (width - len(each)) + [1] * len(each) for each in prompts]
        readings = [Reading(given["until"], most, self.text) for most in given["max_tokens"]]
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
                self.torch.tensor(ids, device=self.device),
                attention_mask=self.torch.tensor(mask, device=self.device),
                max_new_tokens=max(given["max_tokens"]),
                past_key_values=self.cache.made(),
                stopping_criteria=StoppingCriteriaList([ended]),
                logits_processor=LogitsProcessorList([drawn] if sampler.choice.temperature else []),
            )
        rows = made[:, width:].tolist()
        return [each.result(row, self.ends) for each, row in zip(readings, rows, strict=True)]


class Gguf(LlamaCpp, Speaker):
    """A GGUF file through llama.cpp's library, a token or a batch of them at a time.

    What two prompts in a row have in common stays in the cache, as llama-server keeps it.
    """

    def __init__(self, path: Path, args: argparse.Namespace) -> None:
        super().__init__(path, args)
        self.tongue = GgufTongue(path)
        self.vocab = self.api.llama_model_get_vocab(self.model)
        self.context: Any = None
        self.room = 0
        self.held: list[int] = []

    def facts(self) -> dict[str, Any]:
        eos, template = self.api.llama_vocab_eos(self.vocab), self.api.llama_model_chat_template(self.model, None)
        return LlamaCpp.facts(self) | {
            "vocabulary": self.vocabulary,
            "context": self.api.llama_model_n_ctx_train(self.model),
            "bos": self.tongue.begin(),
            "eos": eos if eos >= 0 else None,
            "chat_template": template.decode() if template else None,
        }

    def score(self, rows: Sequence[Row]) -> list[tuple[float, bool]]:
        return [summed(log_softmax(self._logits(ids[:-1], first - 1)), ids[first:]) for ids, first in rows]

    def answer(self, prompts: list[list[int]], given: dict[str, Any]) -> list[dict[str, Any]]:
        sampler, ended = Sampler(given), partial(self.api.llama_vocab_is_eog, self.vocab)
        found = []
        for place, prompt in enumerate(prompts):
            reading = Reading(given["until"], given["max_tokens"][place], self.text)
            made: list[int] = []
            self._roomy(len(prompt) + given["max_tokens"][place])
            while not made or not reading.reads(made):
                logits = self._logits([*prompt, *made], len(prompt) + len(made) - 1)
                token = int(sampler.one(logits[-1], place))
                made.append(token)
                if ended(token):
                    break
            found.append(reading.result(made, [each for each in made[-1:] if ended(each)]))
        return found

    def _logits(self, ids: list[int], first: int) -> Any:
        """Rows of logits from position `first` on; what the cache holds already is not decoded again."""
        self._roomy(len(ids))
        start, self.held = self._kept(ids, first), []
        batch = self.api.llama_batch_init(BATCH, 0, 1)
        found = []
        for begin in range(start, len(ids), BATCH):
            part = ids[begin : begin + BATCH]
            asked = self._decode(batch, part, (begin, first, len(ids)))
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

    def _roomy(self, tokens: int) -> None:
        """A context with room for so many tokens: a larger one in place of a smaller one."""
        if tokens <= self.room:
            return
        if self.context is not None:
            self.api.llama_free(self.context)
        self.context, self.room, self.held = None, 0, []
        room = -(-max(tokens, BATCH) // 256) * 256
        self.context, self.room = self._opened(room, swa_full=True), room


def template_of(stated: Any) -> str | None:
    """One template of a tokenizer that may have several: the one called default."""
    return stated.get("default") if isinstance(stated, dict) else stated
