"""Models and tokenizers of the scorer: transformers for folders, llama.cpp's library for GGUF files."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from score_cache import Simulated, ggml_type
from score_common import Refusal, versions
from score_statistics import Block

BATCH = 512
"""Tokens that llama.cpp decodes at once: it keeps the logits of no more than these."""
ERROR = 4
"""llama.cpp's level of a message that says what failed."""
ROWS = 256
"""Positions whose logits become log-probabilities at once."""
FLASH = 1
"""llama.h, LLAMA_FLASH_ATTN_TYPE_ENABLED: a quantized V asks for it, and the side it is held against is read so too."""
SENTENCEPIECE, BYTE = 1, 1 << 5
"""llama.cpp's LLAMA_VOCAB_TYPE_SPM and LLAMA_TOKEN_ATTR_BYTE."""
SAID: list[str] = []
"""What llama.cpp called an error."""
KEPT: list[Any] = []
"""Callbacks that llama.cpp still holds."""


class Transformers:
    """A model folder with safetensors; compressed-tensors checkpoints are run as transformers runs them."""

    def __init__(self, path: Path, args: argparse.Namespace) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        if not path.is_dir():
            raise Refusal(f"{path}: the transformers backend takes a folder with config.json and safetensors")
        self.torch = torch
        self.device = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
        self.model = AutoModelForCausalLM.from_pretrained(
            path, dtype=args.dtype, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
        self.model.to(self.device).eval()
        self.cache = Simulated(self.model, path, args.cache)
        self.vocabulary = self.model.get_input_embeddings().num_embeddings

    def facts(self) -> dict[str, Any]:
        names = ("torch", "transformers", "compressed-tensors", "numpy")
        said = {"device": self.device, "dtype": str(self.model.dtype), "cache": self.cache.facts()}
        return {**said, "versions": versions(version, names)}

    def logprobs(self, ids: list[int]) -> Iterator[Block]:
        first = len(ids) // 2
        with self.torch.inference_mode():
            fed, cache = self.torch.tensor([ids], device=self.device), self.cache.made()
            given = {"use_cache": False} if cache is None else {"use_cache": True, "past_key_values": cache}
            logits = self.model(input_ids=fed, **given).logits[0, first:-1]
            for start in range(0, len(logits), ROWS):
                rows = self.torch.log_softmax(logits[start : start + ROWS].float(), -1)
                yield rows.cpu().numpy()


class LlamaCpp:
    """A GGUF file, decoded window by window with an emptied cache."""

    def __init__(self, path: Path, args: argparse.Namespace) -> None:
        self.args, self.cache = args, ggml_type(args.cache)
        self.api, self.model = open_gguf(path, layers=0 if args.device == "cpu" else 999)
        vocab = self.api.llama_model_get_vocab(self.model)
        self.vocabulary = self.api.llama_vocab_n_tokens(vocab)
        self.context: Any = None

    def facts(self) -> dict[str, Any]:
        system = self.api.llama_print_system_info().decode()
        kept = "llama.cpp's default" if self.cache is None else "llama.cpp's own, with flash attention"
        said = {"device": system, "dtype": "the file's", "cache": {"asked": self.args.cache, "is": kept}}
        return {**said, "versions": versions(version, ("llama_cpp_python", "numpy"))}

    def logprobs(self, ids: list[int]) -> Iterator[Block]:
        if self.context is None:
            self.context = self._opened(len(ids))
        api, first = self.api, len(ids) // 2
        api.llama_memory_clear(api.llama_get_memory(self.context), True)
        batch = api.llama_batch_init(BATCH, 0, 1)
        for start in range(0, len(ids), BATCH):
            asked = self._decode(batch, ids[start : start + BATCH], (start, first, len(ids) - 1))
            if asked:
                read = np.ctypeslib.as_array(api.llama_get_logits(self.context), shape=(asked, self.vocabulary))
                yield from (log_softmax(read[row : row + ROWS]) for row in range(0, asked, ROWS))
        api.llama_batch_free(batch)

    def _decode(self, batch: Any, ids: list[int], span: tuple[int, int, int]) -> int:
        """Decode ids from a place on; how many of them have their logits kept."""
        start, first, last = span
        batch.n_tokens = len(ids)
        for place, token in enumerate(ids):
            batch.token[place], batch.pos[place] = token, start + place
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
            batch.logits[place] = first <= start + place < last
        code = self.api.llama_decode(self.context, batch)
        if code != 0:
            raise Refusal(f"llama.cpp could not decode {len(ids)} tokens at place {start} (llama_decode: {code})")
        return sum(first <= start + place < last for place in range(len(ids)))

    def _opened(self, context: int, **more: Any) -> Any:
        """A context of so many tokens; `more` are fields of llama_context_params."""
        given = self.api.llama_context_default_params()
        given.n_ctx, given.n_batch, given.n_ubatch = context, BATCH, BATCH
        given.n_threads = given.n_threads_batch = threads(self.args)
        if self.cache is not None:
            given.type_k = given.type_v = self.cache
            given.flash_attn_type = FLASH
        for name, value in more.items():
            setattr(given, name, value)
        opened = self.api.llama_init_from_model(self.model, given)
        if not opened:
            raise Refusal(f"llama.cpp could not open a context of {context} tokens: too little memory?")
        return opened


def threads(args: argparse.Namespace) -> int:
    """As asked; else as torch takes them: OMP_NUM_THREADS, or one for each core that this process may use."""
    own = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return args.threads or (int(own) if own.isdigit() and int(own) else cores)


def open_gguf(path: Path, *, vocab_only: bool = False, layers: int = 0) -> tuple[Any, Any]:
    """llama.cpp's functions, and a model that it opened."""
    import llama_cpp

    if not path.is_file():
        raise Refusal(f"{path}: the llama.cpp backend takes a GGUF file")
    given = llama_cpp.llama_model_default_params()
    given.vocab_only, given.n_gpu_layers = vocab_only, layers
    KEPT.append(llama_cpp.llama_log_callback(heard))
    llama_cpp.llama_log_set(KEPT[-1], None)
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), given)
    if not model:
        raise Refusal(f"{path}: llama.cpp could not load it: {' '.join(SAID[-2:])}")
    return llama_cpp, model


def heard(level: int, text: bytes, _: object) -> None:
    """Keeps errors and drops the rest of llama.cpp's talk."""
    if level == ERROR:
        SAID.append(text.decode(errors="replace").strip())


def log_softmax(logits: Block) -> Block:
    """Float32 rows; sums of exponentials in float64."""
    with np.errstate(invalid="ignore"):
        lowered = logits - logits.max(axis=1, keepdims=True)
        total = np.log(np.exp(lowered).sum(axis=1, keepdims=True, dtype=np.float64))
        made: Block = lowered - total.astype(np.float32)
    return made


class HubTokens:
    """The tokenizer of a model folder."""

    def __init__(self, path: Path) -> None:
        from transformers import AutoTokenizer

        self.own = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        tried = self.own("a")["input_ids"]
        self.bos = self.own.bos_token_id if tried and tried[0] == self.own.bos_token_id else None

    def plain(self, text: str) -> list[int]:
        return list(self.own(text, verbose=False)["input_ids"])

    def chat(self, messages: list[dict[str, Any]]) -> list[int]:
        if not self.own.chat_template:
            raise Refusal("the tokenizer has no chat template: chat `messages` cannot become text")
        text = self.own.apply_chat_template(messages, tokenize=False)
        return list(self.own(text, add_special_tokens=False, verbose=False)["input_ids"])


class GgufTokens:
    """The tokenizer inside a GGUF file."""

    def __init__(self, path: Path) -> None:
        self.api, self.model = open_gguf(path, vocab_only=True)
        self.vocab = self.api.llama_model_get_vocab(self.model)
        self._refuse_lost_bytes(path)
        self.bos = self.api.llama_vocab_bos(self.vocab) if self.api.llama_vocab_get_add_bos(self.vocab) else None

    def _refuse_lost_bytes(self, path: Path) -> None:
        """llama.cpp ends the process on a text whose bytes have no token. convert_hf_to_gguf.py makes such a file of a
        byte-level tokenizer.json that says `byte_fallback`, as transformers writes it when it reads a GGUF file."""
        if self.api.llama_vocab_type(self.vocab) != SENTENCEPIECE:
            return
        last = self.api.llama_vocab_n_tokens(self.vocab)
        if not any(self.api.llama_vocab_get_attr(self.vocab, token) & BYTE for token in range(last)):
            raise Refusal(
                f"{path}: its tokenizer is a SentencePiece one without tokens of single bytes, which llama.cpp cannot "
                "read text with; was it converted from a byte-level tokenizer.json that says byte_fallback?"
            )

    def plain(self, text: str) -> list[int]:
        return self._encode(text, special=True)

    def chat(self, messages: list[dict[str, Any]]) -> list[int]:
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        template = self.api.llama_model_chat_template(self.model, None)
        if not template:
            raise Refusal("the GGUF file has no chat template: chat `messages` cannot become text")
        begin, end = (self._piece(get(self.vocab)) for get in (self.api.llama_vocab_bos, self.api.llama_vocab_eos))
        turn = Jinja2ChatFormatter(template.decode(), end, begin, add_generation_prompt=False)
        return self._encode(turn(messages=messages).prompt, special=False)

    def _piece(self, token: int) -> str:
        return self.api.llama_vocab_get_text(self.vocab, token).decode() if token >= 0 else ""

    def _encode(self, text: str, *, special: bool) -> list[int]:
        data = text.encode()
        room = len(data) + 8
        ids = (self.api.llama_token * room)()
        count = self.api.llama_tokenize(self.vocab, data, len(data), ids, room, special, True)
        if count < 0:
            raise Refusal(f"llama.cpp could not tokenize a text of {len(data)} bytes")
        return list(ids[:count])
