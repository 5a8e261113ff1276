"""Models that answer: transformers for folders, llama.cpp's library for GGUF files, many answers side by side."""

from __future__ import annotations

import argparse
import datetime
import hashlib
import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from answer_talk import Row
from score_common import Refusal
from score_models import BATCH, GgufTokens, HubTokens, LlamaCpp, Transformers, log_softmax

DAY = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
"""What templates that ask for the date are told: both sides get the same, whenever they run."""
LAYERS = ("full_attention", "sliding_attention", "chunked_attention")
"""Kinds of layers that leave padding before a prompt alone; others answer one prompt at a time."""


@dataclass(frozen=True)
class Prompt:
    """What an item became: text, token ids, BOS tokens in front, and whether a chat template made it."""

    text: str
    ids: list[int]
    bos: int
    template: bool

    def told(self) -> dict[str, Any]:
        hashes = {"text": self.text.encode(), "ids": json.dumps(self.ids).encode()}
        made = {name: hashlib.sha256(content).hexdigest() for name, content in hashes.items()}
        return {**made, "tokens": len(self.ids), "bos": self.bos, "template": self.template}


class Tongue:
    """Items as prompts through a model's own template and tokenizer."""

    def templated(self, messages: list[dict[str, Any]], tools: list[Any] | None, *, begins: bool) -> str | None:
        """The text of a chat with the beginning of the answer, or up to the end of its last message, which the model
        goes on with; None where the model has no chat template."""
        raise NotImplementedError

    def ids(self, text: str, *, special: bool) -> list[int]:
        """Token ids, with or without those that the tokenizer puts around a text."""
        raise NotImplementedError

    def encode(self, text: str, *, template: bool) -> list[int]:
        raise NotImplementedError

    def decode(self, ids: list[int], *, special: bool) -> str:
        raise NotImplementedError

    def prompt(self, item: dict[str, Any]) -> Prompt:
        """Messages, or a prompt as one message of the user; as it is where it is raw, or there is no template."""
        messages = item.get("messages") or [{"role": "user", "content": item["prompt"]}]
        text = None if item.get("raw") else self.chat(messages, item.get("tools"), where=f"item {item['name']}: ")
        template = text is not None
        if text is None:
            several = len(messages) > 1 or item.get("tools")
            if several and not item.get("loose"):
                raise Refusal(f"item {item['name']}: the model has no chat template, and it is more than one prompt")
            text = "\n".join(turn["content"] for turn in messages)
        ids = self.encode(text, template=template)
        return Prompt(text, ids, self.leading(ids), template)

    def chat(
        self, messages: list[dict[str, Any]], tools: list[Any] | None = None, *, begins: bool = True, where: str = ""
    ) -> str | None:
        """As `templated`. Raises Refusal where the template does."""
        from jinja2 import TemplateError

        try:
            return self.templated(messages, tools, begins=begins)
        except (TemplateError, ValueError, TypeError) as error:
            raise Refusal(f"{where}the model's chat template refuses it: {error}") from error

    def leading(self, ids: list[int]) -> int:
        """BOS tokens in front."""
        begin = self.begin()
        count = next((place for place, token in enumerate(ids) if token != begin), len(ids))
        return count if begin is not None else 0

    def begin(self) -> int | None:
        """The BOS token, whether or not it is put in front of texts."""
        raise NotImplementedError

    def opening(self) -> str:
        """The BOS token as text; empty where there is none."""
        raise NotImplementedError

    def option(self, prompt: Prompt, choice: str) -> list[int]:
        """A choice's token ids after a prompt: of both together, less the prompt's (as lm-eval). Raw prompts and
        choices are parted by a blank where neither has one."""
        blank = not prompt.template and not prompt.text.endswith((" ", "\n")) and not choice.startswith((" ", "\n"))
        text = f"{prompt.text}{' ' if blank else ''}{choice}"
        found = self.encode(text, template=prompt.template)[len(prompt.ids) :]
        if not found:
            raise Refusal(f"the choice {choice!r} has no token of its own after its prompt")
        return found


class HubTongue(Tongue):
    """The tokenizer of a model folder; `apply_chat_template` of transformers, whose templates run in a sandbox."""

    def __init__(self, path: Path) -> None:
        self.own = HubTokens(path).own

    def templated(self, messages: list[dict[str, Any]], tools: list[Any] | None, *, begins: bool) -> str | None:
        if not self.own.chat_template:
            return None
        made: str = self.own.apply_chat_template(
            messages, tools=tools, tokenize=False, add_generation_prompt=begins, continue_final_message=not begins,
            strftime_now=DAY.strftime,
        )  # fmt: skip
        return made

    def ids(self, text: str, *, special: bool) -> list[int]:
        return list(self.own(text, add_special_tokens=special, verbose=False)["input_ids"])

    def encode(self, text: str, *, template: bool) -> list[int]:
        return self.ids(text, special=not template)

    def decode(self, ids: list[int], *, special: bool) -> str:
        return str(self.own.decode(ids, skip_special_tokens=not special))

    def begin(self) -> int | None:
        return None if self.own.bos_token_id is None else int(self.own.bos_token_id)

    def opening(self) -> str:
        return self.own.bos_token or ""


class GgufTongue(Tongue):
    """The tokenizer and the template inside a GGUF file. As llama-server, BOS is put before a chat where the tokenizer
    adds it and the template does not."""

    def __init__(self, path: Path) -> None:
        self.own = GgufTokens(path)
        self.api, self.vocab = self.own.api, self.own.vocab

    def templated(self, messages: list[dict[str, Any]], tools: list[Any] | None, *, begins: bool) -> str | None:
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        named = self.api.llama_model_chat_template(self.own.model, b"tool_use") if tools else None
        template = named or self.api.llama_model_chat_template(self.own.model, None)
        if not template:
            return None
        end = self.own._piece(self.api.llama_vocab_eos(self.vocab))
        turn = Jinja2ChatFormatter(template.decode(), end, self.opening(), add_generation_prompt=begins)
        turn.strftime_now = DAY.strftime
        text = str(turn(messages=messages, tools=tools).prompt)
        return text if begins else continued(text, str(messages[-1]["content"]))

    def ids(self, text: str, *, special: bool) -> list[int]:
        return self.own._encode(text, special=special)

    def encode(self, text: str, *, template: bool) -> list[int]:
        begin = self.begin()
        ids = self.ids(text, special=not template)
        adds = template and begin is not None and self.api.llama_vocab_get_add_bos(self.vocab)
        return [int(begin or 0), *ids] if adds and ids[:1] != [begin] else ids

    def decode(self, ids: list[int], *, special: bool) -> str:
        import ctypes

        given = (self.api.llama_token * len(ids))(*ids)
        room = 64 * len(ids) + 64
        while True:
            text = ctypes.create_string_buffer(room)
            count = self.api.llama_detokenize(self.vocab, given, len(ids), text, room, False, special)
            if count >= 0:
                return text.raw[:count].decode(errors="replace")
            room = 8 - count

    def begin(self) -> int | None:
        found = self.api.llama_vocab_bos(self.vocab)
        return int(found) if found >= 0 else None

    def opening(self) -> str:
        return self.own._piece(self.api.llama_vocab_bos(self.vocab))


class HubAnswers(Transformers):
    """A model folder. Prompts of one batch are padded in front; answers that are over leave it."""

    def __init__(self, path: Path, args: argparse.Namespace) -> None:
        super().__init__(path, args)
        self.tongue = HubTongue(path)
        config = self.model.config.get_text_config()
        self.longest = int(getattr(config, "max_position_embeddings", 0) or 0)
        kinds = getattr(config, "layer_types", None) or LAYERS
        plain = all(kind in LAYERS for kind in kinds) and hasattr(config, "num_attention_heads")
        self.batch = args.batch if plain else 1
        self.few = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        named = self.model.generation_config.eos_token_id if self.model.generation_config else None
        ends = named if isinstance(named, list) else [named]
        self.ends = frozenset(each for each in [*ends, self.tongue.own.eos_token_id] if each is not None)
        self.past: Any = None
        self.mask: Any = None

    def begin(self, prompts: list[list[int]]) -> list[Row]:
        """Logits after each prompt."""
        self.past = self.cache.made()
        ids, self.mask = self._padded(prompts)
        return list(self._forward(ids, 1)[:, -1])

    def go_on(self, kept: list[int], tokens: list[int]) -> list[Row]:
        """Logits after one more token of the answers that go on, named by their places in the last call."""
        if len(kept) < len(self.mask):
            chosen = self.torch.tensor(kept, device=self.device)
            self.mask = self.mask[chosen]
            self.past.batch_select_indices(chosen)
        more = self.torch.ones((len(kept), 1), dtype=self.mask.dtype, device=self.device)
        self.mask = self.torch.cat([self.mask, more], dim=1)
        return list(self._forward(self.torch.tensor([[token] for token in tokens], device=self.device), 1)[:, -1])

    def options(self, prompt: list[int], options: list[list[int]]) -> list[float]:
        """Log-probabilities of each option after the prompt."""
        found: list[float] = []
        for start in range(0, len(options), self.batch):
            part = options[start : start + self.batch]
            ids, self.mask = self._padded([prompt + each[:-1] for each in part])
            self.past, most = self.cache.made(), max(map(len, part))
            rows = self._forward(ids, most)
            for each, row in zip(part, rows, strict=True):
                found.append(summed(log_softmax(row[-len(each) :]), each)[0])
        self.past = None
        return found

    def _padded(self, prompts: list[list[int]]) -> tuple[Any, Any]:
        """(ids, mask), [prompts, tokens of the longest]."""
        most = max(map(len, prompts))
        ids = self.torch.tensor([[0] * (most - len(each)) + each for each in prompts], device=self.device)
        mask = [[0] * (most - len(each)) + [1] * len(each) for each in prompts]
        return ids, self.torch.tensor(mask, device=self.device)

    def _forward(self, ids: Any, last: int) -> Row:
        """Float32 logits of the last places, [prompts, places, vocabulary]."""
        places = (self.mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        few = {"logits_to_keep": last} if self.few else {}
        with self.torch.inference_mode():
            made = self.model(
                input_ids=ids,
                attention_mask=self.mask,
                position_ids=places,
                past_key_values=self.past,
                use_cache=True,
                **few,
            )
        self.past = made.past_key_values
        logits: Row = made.logits[:, -last:].float().cpu().numpy()
        return logits


class GgufAnswers(LlamaCpp):
    """A GGUF file; each answer of a batch is a sequence of its own in one cache."""

    def __init__(self, path: Path, args: argparse.Namespace) -> None:
        super().__init__(path, args)
        self.tongue = GgufTongue(path)
        self.context: Any = None
        self.batch = args.batch
        self.longest = int(self.api.llama_model_n_ctx_train(self.model))
        vocab = self.api.llama_model_get_vocab(self.model)
        self.ends = frozenset(token for token in range(self.vocabulary) if self.api.llama_vocab_is_eog(vocab, token))
        self.room = 0
        self.places: list[int] = []
        self.sequences: list[int] = []

    def need(self, tokens: int) -> None:
        """Room for so many cached tokens in all sequences together; said before anything is asked."""
        self.room = max(self.room, tokens)

    def begin(self, prompts: list[list[int]]) -> list[Row]:
        self._clear()
        self.sequences, self.places = list(range(len(prompts))), [len(each) for each in prompts]
        return [self._prompt(number, ids)[-1] for number, ids in enumerate(prompts)]

    def go_on(self, kept: list[int], tokens: list[int]) -> list[Row]:
        self.sequences = [self.sequences[place] for place in kept]
        given = [
            (token, self.places[number], number, True) for token, number in zip(tokens, self.sequences, strict=True)
        ]
        for number in self.sequences:
            self.places[number] += 1
        return self._fed(given)

    def options(self, prompt: list[int], options: list[list[int]]) -> list[float]:
        """The prompt is decoded once; its cache is cut back after each option."""
        self._clear()
        first = self._prompt(0, prompt)[-1]
        found = []
        for each in options:
            given = [(token, len(prompt) + place, 0, True) for place, token in enumerate(each[:-1])]
            rows = [first, *(self._fed(given) if given else [])]
            found.append(summed(log_softmax(np.stack(rows)), each)[0])
            self.api.llama_memory_seq_rm(self.api.llama_get_memory(self.context), 0, len(prompt), -1)
        return found

    def _prompt(self, number: int, ids: list[int]) -> list[Row]:
        """Decode a prompt as one sequence; the logits of its last token."""
        rows: list[Row] = []
        for start in range(0, len(ids), BATCH):
            part = ids[start : start + BATCH]
            rows = self._fed([(token, place, number, place == len(ids) - 1) for place, token in enumerate(part, start)])
        return rows

    def _fed(self, given: list[tuple[int, int, int, bool]]) -> list[Row]:
        """Decode (token, place, sequence, whether its logits are kept); copies of those logits."""
        rows: list[Row] = []
        for start in range(0, len(given), BATCH):
            rows += self._part(given[start : start + BATCH])
        return rows

    def _part(self, given: list[tuple[int, int, int, bool]]) -> list[Row]:
        api = self.api
        batch = api.llama_batch_init(len(given), 0, 1)
        batch.n_tokens = len(given)
        for row, (token, place, number, wanted) in enumerate(given):
            batch.token[row], batch.pos[row], batch.logits[row] = token, place, wanted
            batch.n_seq_id[row], batch.seq_id[row][0] = 1, number
        code = api.llama_decode(self.context, batch)
        api.llama_batch_free(batch)
        if code != 0:
            raise Refusal(f"llama.cpp could not decode {len(given)} tokens (llama_decode: {code})")
        asked = [row for row, each in enumerate(given) if each[3]]
        shape = (self.vocabulary,)
        return [np.ctypeslib.as_array(api.llama_get_logits_ith(self.context, row), shape=shape).copy() for row in asked]

    def _clear(self) -> None:
        if self.context is None:
            self.context = self._opened(self.room, n_seq_max=self.batch, kv_unified=True)
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)


def summed(logprobs: Row, ids: list[int]) -> tuple[float, bool]:
    """The log-probability of ids, row by row, and whether each was the likeliest."""
    rows = logprobs[: len(ids)]
    picked = rows[np.arange(len(ids)), ids]
    return float(picked.sum(dtype=np.float64)), bool((rows.argmax(axis=1) == np.asarray(ids)).all())


def continued(text: str, last: str) -> str:
    """A chat up to the end of its last message."""
    place = text.rfind(last.strip())
    if place < 0:
        raise Refusal("the chat template does not hold its last message as it is: nothing can go on with it")
    return text[: place + len(last.strip())]
