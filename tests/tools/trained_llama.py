"""Runs inside llm-compressor's environment: a small Llama, trained in minutes from Python's own documentation.

usage: python trained_llama.py FOLDER [--steps N]
Writes FOLDER/model (16-bit safetensors, tokenizer.model, a chat template), FOLDER/train.txt, FOLDER/held-out.txt,
FOLDER/chats.jsonl and FOLDER/trained.json last: sizes, steps, perplexities, hash of the corpus.

The corpus is the help topics and the docstrings of the running Python's library, read and never imported; every
twelfth document is held out. Documents are also asked for as chats, so that the model knows its own template. All
widths are multiples of 256: each block format of llama.cpp and groups of 128 divide them.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import inspect
import json
import math
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

SEED = 7
WORDS = 1024
HIDDEN, FEED, LAYERS, HEADS, SHARED = 256, 512, 4, 4, 2
CONTEXT, BATCH, STEPS = 512, 4, 700
CALIBRATED = 24
"""One document of so many is for calibration."""
HELD_OUT = 12
"""One document of so many is not trained on …"""
PASSAGE = 40
"""… nor is any that shares so many words in a row with one of those."""
USER, ASSISTANT, END = "<|user|>", "<|assistant|>", "<|end|>"
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
Document = tuple[str, str]
"""(name, text)"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args()
    began = time.monotonic()
    given.folder.mkdir(parents=True, exist_ok=True)
    trained, held = split(corpus())
    texts(given.folder, trained, held)
    model = given.folder / "model"
    model.mkdir(exist_ok=True)
    pieces(given.folder / "train.txt", model)
    said = train(model, (trained, held), given.steps)
    said |= {"corpus": corpus_hash(), "seconds": round(time.monotonic() - began, 1)}
    (given.folder / "trained.json").write_text(json.dumps(said, indent=1) + "\n")
    print(json.dumps(said))


def corpus() -> list[Document]:
    """Help topics, then docstrings of the library in the order of their names; none twice."""
    found = [(name, clean(text)) for name, text in sorted(topics.items())]
    found += [each for path in sources() for each in docstrings(path)]
    seen: dict[str, Document] = {}
    for name, text in found:
        if len(text) >= 80:
            seen.setdefault(text, (name, text))
    return list(seen.values())


def corpus_hash() -> str:
    return hashlib.sha256(json.dumps(corpus()).encode()).hexdigest()


def sources() -> list[Path]:
    """Modules of the library without its tests."""
    root = Path(sysconfig.get_paths()["stdlib"])
    apart = {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3"}
    return [path for path in sorted(root.rglob("*.py")) if not apart & set(path.relative_to(root).parts)]


def docstrings(path: Path) -> Iterator[Document]:
    """Of a module, its classes and its functions."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield f"{path.stem}.{getattr(node, 'name', '')}".rstrip("."), clean(text)


def clean(text: str) -> str:
    """Lines without trailing blanks, no rulers, ASCII only."""
    lines = [line.rstrip() for line in inspect.cleandoc(text).splitlines()]
    kept = [line for line in lines if not line or line.strip("*=-~^_# ")]
    return "\n".join(kept).encode("ascii", "ignore").decode().strip()


def split(documents: list[Document]) -> tuple[list[Document], list[Document]]:
    """(trained on, held out): by a hash of the text, so that another Python moves few."""
    held = [each for each in documents if int(hashlib.sha256(each[1].encode()).hexdigest(), 16) % HELD_OUT == 0]
    apart = {each for _, text in held for each in passages(text)} | {text for _, text in held}
    return [each for each in documents if each[1] not in apart and apart.isdisjoint(passages(each[1]))], held


def passages(text: str) -> set[str]:
    """Every run of PASSAGE words."""
    words = text.lower().split()
    return {" ".join(words[start : start + PASSAGE]) for start in range(len(words) - PASSAGE + 1)}


def texts(folder: Path, trained: list[Document], held: list[Document]) -> None:
    """What others calibrate on and are scored on: plain text, and chats as JSONL."""
    (folder / "train.txt").write_text("\n\n".join(text for _, text in trained) + "\n")
    (folder / "held-out.txt").write_text("\n\n".join(text for _, text in held) + "\n")
    lines = [json.dumps({"messages": chat(each)}) for each in trained[::CALIBRATED]]
    (folder / "chats.jsonl").write_text("\n".join(lines) + "\n")


def chat(document: Document) -> list[dict[str, str]]:
    name, text = document
    return [{"role": "user", "content": f"What is {name}?"}, {"role": "assistant", "content": text}]


def pieces(text: Path, folder: Path) -> None:
    """`tokenizer.model`: byte-pair encoding with bytes to fall back on, trained by SentencePiece."""
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "tokenizer"), model_type="bpe", vocab_size=WORDS,
        byte_fallback=True, user_defined_symbols=[USER, ASSISTANT, END, "<|system|>", "\n", "  ", "    "],
        normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
        max_sentence_length=100_000, num_threads=1, minloglevel=2,
    )  # fmt: skip
    (folder / "tokenizer.vocab").unlink()
    config = {
        "tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
        "pad_token": "</s>", "add_bos_token": True, "add_eos_token": False, "legacy": False,
        "clean_up_tokenization_spaces": False, "chat_template": TEMPLATE, "model_max_length": CONTEXT,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")


def train(folder: Path, documents: tuple[list[Document], list[Document]], steps: int) -> dict[str, Any]:
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    own, held = (stream(tokenizer, each) for each in documents)
    config = LlamaConfig(
        hidden_size=HIDDEN, intermediate_size=FEED, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=SHARED, vocab_size=WORDS, max_position_embeddings=CONTEXT, tie_word_embeddings=False,
        bos_token_id=1, eos_token_id=2, rms_norm_eps=1e-5,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    step_s = descend(model, own, steps)
    model = model.to(torch.bfloat16)
    model.save_pretrained(folder)
    return {
        "params": sum(each.numel() for each in model.parameters()), "steps": steps, "step_s": round(step_s, 4),
        "tokens": len(own), "held_out_tokens": len(held),
        "perplexity": {"trained": perplexity(model, own[: len(held)]), "held_out": perplexity(model, held)},
    }  # fmt: skip


def stream(tokenizer: Any, documents: list[Document]) -> Any:
    """Token ids of all documents, each once as text and, where short, once as a chat; one after the other."""
    import torch

    ids: list[int] = []
    for name, text in documents:
        ids += [*tokenizer(text, verbose=False)["input_ids"], tokenizer.eos_token_id]
        if len(text) < 600:
            said = tokenizer.apply_chat_template(chat((name, text)), tokenize=False)
            ids += [*tokenizer(said, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    return torch.tensor(ids)


def descend(model: Any, own: Any, steps: int) -> float:
    """Train; seconds a step. Muon for the matrices of layers, AdamW for the rest; both end slowly."""
    import torch

    inner = [each for name, each in model.model.layers.named_parameters() if each.ndim == 2]
    apart = {id(each) for each in inner}
    outer = [each for each in model.parameters() if id(each) not in apart]
    both = [
        torch.optim.Muon(inner, lr=0.02, momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW(outer, lr=4e-3, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    plans = [torch.optim.lr_scheduler.LambdaLR(each, lambda step: pace(step, steps)) for each in both]
    order = batches(own, steps)
    began = time.monotonic()
    for place, rows in enumerate(order):
        logits = model(input_ids=rows[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for each in (*both, *plans):
            each.step()
        for each in both:
            each.zero_grad()
        if place % 50 == 0:
            print(f"step {place}/{steps}, loss {loss.item():.3f}", file=sys.stderr, flush=True)
    return (time.monotonic() - began) / steps


def pace(step: int, steps: int) -> float:
    """Share of the learning rate."""
    return min(1.0, (step + 1) / 30, max((steps - step) / (0.5 * steps), 0.02))


def batches(own: Any, steps: int) -> Iterator[Any]:
    """Rows of CONTEXT + 1 tokens, all of the text before any of it again, each time cut at another place."""
    import torch

    chance = torch.Generator().manual_seed(SEED)
    left = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(left) < BATCH:
            shift = int(torch.randint(0, CONTEXT, (1,), generator=chance))
            starts = torch.arange(shift, len(own) - CONTEXT - 1, CONTEXT)
            left = torch.cat([left, starts[torch.randperm(len(starts), generator=chance)]])
        taken, left = left[:BATCH], left[BATCH:]
        yield torch.stack([own[start : start + CONTEXT + 1] for start in taken.tolist()])


def perplexity(model: Any, ids: Any) -> float:
    """Of every token in windows of CONTEXT, as the 16-bit model is saved."""
    import torch

    rows = ids[: len(ids) // CONTEXT * CONTEXT].view(-1, CONTEXT)
    total = 0.0
    with torch.inference_mode():
        for part in rows.split(16):
            logits = model(input_ids=part, use_cache=False).logits[:, :-1].float().flatten(0, 1)
            total += float(torch.nn.functional.cross_entropy(logits, part[:, 1:].flatten(), reduction="sum"))
    return round(math.exp(total / (len(rows) * (CONTEXT - 1))), 3)


if __name__ == "__main__":
    main()
