"""The scorer's arithmetic and its files, without a model: windows, hashes, statistics of rows, refusals."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

WORKERS = Path(__file__).parents[2] / "planner" / "workers"
WORDS = 50


@pytest.fixture(scope="module")
def score() -> Iterator[ModuleType]:
    """score.py as its own program imports it: from its own folder, without the package."""
    sys.path.insert(0, str(WORKERS))
    yield importlib.import_module("score")
    sys.path.remove(str(WORKERS))


class Letters:
    """A tokenizer of single characters."""

    bos = 1

    def plain(self, text: str) -> list[int]:
        return [2 + ord(letter) % (WORDS - 2) for letter in text]

    def chat(self, messages: list[dict[str, Any]]) -> list[int]:
        return self.plain("".join(f"<{each['role']}>{each['content']}" for each in messages))


class Model:
    """Logits that depend on the token alone; `twist` moves them, `hole` makes one of them no number."""

    vocabulary = WORDS

    def __init__(self, path: Path, _: argparse.Namespace) -> None:
        self.twist = float(path.read_text())
        self.hole = path.name == "hole.txt"

    def facts(self) -> dict[str, Any]:
        return {"device": "none", "dtype": "float32", "versions": {}}

    def logprobs(self, ids: list[int]) -> Iterator[Any]:
        from score_models import log_softmax

        table = np.random.default_rng(0).normal(0, 2, (WORDS, WORDS))
        moved = table + self.twist * np.random.default_rng(1).normal(0, 1, (WORDS, WORDS))
        rows = moved[ids[len(ids) // 2 : -1]].astype(np.float32)
        if self.hole:
            rows[1, 3] = np.nan
        yield log_softmax(rows)


@pytest.fixture
def world(score: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a text, chat lines and three models; letters for tokens."""
    monkeypatch.setattr("score_tokens.GgufTokens", lambda _: Letters())
    monkeypatch.setitem(score.BACKENDS, "transformers", Model)
    (tmp_path / "own.txt").write_text("The quick brown fox jumps over the lazy dog. " * 20)
    lines = [{"text": "plain " * 20}, {"messages": [{"role": "user", "content": "why? " * 30}]}, {"text": ""}]
    (tmp_path / "chat.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for name, twist in (("base.txt", "0"), ("near.txt", "0.1"), ("far.txt", "0.5"), ("hole.txt", "0")):
        (tmp_path / name).write_text(twist)
    (tmp_path / "tokenizer.gguf").touch()
    return tmp_path


def call(score: ModuleType, *words: object) -> dict[str, Any]:
    args = score.parser().parse_args([str(word) for word in words])
    made: dict[str, Any] = args.run(args)
    return made


def tokens(score: ModuleType, world: Path, *files: str, context: int = 16, windows: int = 20) -> dict[str, Any]:
    texts = [world / file for file in files or ("own.txt",)]
    call(
        score, "tokens", "--tokenizer", world / "tokenizer.gguf", "--context", context, "--windows", windows,
        "--out", world / "tokens.json", "--text", *texts,
    )  # fmt: skip
    made: dict[str, Any] = json.loads((world / "tokens.json").read_text())
    return made


def record(score: ModuleType, world: Path, model: str = "base.txt", store: str = "float32") -> dict[str, Any]:
    return call(
        score, "record", "--backend", "transformers", "--model", world / model, "--tokens", world / "tokens.json",
        "--out", world / "base", "--store", store,
    )  # fmt: skip


def compare(score: ModuleType, world: Path, model: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header = call(
        score, "compare", "--backend", "transformers", "--model", world / model, "--tokens", world / "tokens.json",
        "--against", world / "base", "--out", world / "stats.npz",
    )  # fmt: skip
    with np.load(world / "stats.npz", allow_pickle=False) as stored:
        return header, {name: stored[name] for name in stored.files}


def test_every_token_is_in_a_window_or_counted(score: ModuleType, world: Path) -> None:
    made = tokens(score, world, "own.txt", "chat.jsonl")
    own, chat = made["texts"]
    assert (own["tokens"], own["windows_there"], own["windows"]) == (900, 56, 20)
    assert own["tokens_unused"] == 900 - 20 * 16
    assert (chat["documents"], chat["empty_documents"], chat["tokens"]) == (3, 1, 120 + 6 + 150)
    assert made["text_of"] == [0] * 20 + [1] * 17
    assert {window[0] for window in made["windows"]} == {Letters.bos}
    ids = Letters().plain((world / "own.txt").read_text())
    first = own["places"][0]
    assert made["windows"][0][1:] == ids[first * 16 + 1 : first * 16 + 16]
    assert made == tokens(score, world, "own.txt", "chat.jsonl")


def test_identical_models_differ_in_nothing(score: ModuleType, world: Path) -> None:
    tokens(score, world)
    record(score, world)
    header, arrays = compare(score, world, "base.txt")
    assert (header["broken_tokens"], header["scored_tokens"]) == (0, 20 * 7)
    assert float(np.abs(arrays["kl"]).max()) == 0
    assert float(np.abs(arrays["dp"]).max()) == 0
    assert arrays["agrees"].all()


def test_statistics_are_those_of_the_definitions(score: ModuleType, world: Path) -> None:
    made = tokens(score, world)
    record(score, world)
    _, arrays = compare(score, world, "far.txt")
    base, other = (np.random.default_rng(seed).normal(0, 1, (WORDS, WORDS)) for seed in (0, 1))
    place, window = 3, made["windows"][4]
    left, right = (rows[window[8 + place]] for rows in (2 * base, 2 * base + 0.5 * other))
    said = window[8 + place + 1]
    chances = [np.exp(row) / np.exp(row).sum() for row in (left, right)]
    expected = {
        "kl": float((chances[0] * np.log(chances[0] / chances[1])).sum()),
        "dp": chances[1][said] - chances[0][said],
        "base_logprob": math.log(chances[0][said]),
        "cand_logprob": math.log(chances[1][said]),
        "base_rank": sum(left > left[said]),
        "cand_rank": sum(right > right[said]),
        "agrees": float(left.argmax() == right.argmax()),
    }
    assert {name: float(arrays[name][4, place]) for name in expected} == pytest.approx(expected, abs=2e-6)


def test_sixteen_bits_say_their_floor_and_stay_near_it(score: ModuleType, world: Path) -> None:
    tokens(score, world)
    exact = record(score, world)
    _, first = compare(score, world, "near.txt")
    rounded = record(score, world, store="float16")
    header, second = compare(score, world, "near.txt")
    assert (exact["floor_kl_max"], exact["bytes"]) == (0, 2 * rounded["bytes"])
    assert 0 < rounded["floor_kl_mean"] < 1e-6
    assert header["baseline"]["stored"] == "float16"
    assert float(second["kl"].mean()) == pytest.approx(float(first["kl"].mean()), rel=0.01)


def test_the_judge_reads_what_the_scorer_writes(score: ModuleType, world: Path) -> None:
    from planner.proving import judge

    tokens(score, world, "own.txt", "chat.jsonl")
    record(score, world)
    compare(score, world, "near.txt")
    header, texts = judge.read((world / "stats.npz").read_bytes(), "stats.npz")
    assert header["tokens_sha256"] == header["baseline"]["tokens_sha256"]
    assert {Path(name).name: seen.count for name, seen in texts.items()} == {"own.txt": 20, "chat.jsonl": 17}


def test_what_is_no_number_is_counted_and_never_averaged(score: ModuleType, world: Path) -> None:
    tokens(score, world)
    record(score, world)
    header, arrays = compare(score, world, "hole.txt")
    assert header["broken_tokens"] == 20
    assert arrays["broken"][:, 1].all()
    assert np.isnan(arrays["kl"][:, 1]).all()
    assert np.isfinite(np.delete(arrays["kl"], 1, axis=1)).all()
    with pytest.raises(score.Refusal, match="the baseline is broken"):
        record(score, world, "hole.txt")
    with pytest.raises(score.Refusal, match="no whole baseline"):
        compare(score, world, "near.txt")


def test_masked_words_do_not_matter_and_lost_ones_do(score: ModuleType) -> None:
    base = np.log(np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]], dtype=np.float32), where=[[True, True, False]] * 2,
                  out=np.full((2, 3), -np.inf, dtype=np.float32))  # fmt: skip
    other = base.copy()
    other[1, 1] = -np.inf
    found = score.statistics(base, other, np.array([0, 0]))
    assert found["broken"].tolist() == [False, True]
    assert found["kl"][0] == 0


def test_refusals_name_what_and_where(score: ModuleType, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(score.Refusal, match=r"own\.txt: 900 tokens, fewer than one window of 1000"):
        tokens(score, world, context=1000)
    (world / "bad.jsonl").write_text('{"text": "a"}\n{"prompt": "b"}')
    with pytest.raises(score.Refusal, match=r"bad\.jsonl:2: expected an object with `text`"):
        tokens(score, world, "bad.jsonl")
    (world / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(score.Refusal, match=r"latin\.txt: not UTF-8 at byte 3"):
        tokens(score, world, "latin.txt")
    with pytest.raises(score.Refusal, match="named twice"):
        tokens(score, world, "own.txt", "own.txt")
    made = tokens(score, world)
    made["windows"][0][5] += 1
    (world / "tokens.json").write_text(json.dumps(made))
    with pytest.raises(score.Refusal, match="not those that its hash stands for"):
        record(score, world)
    tokens(score, world)
    record(score, world)
    tokens(score, world, windows=5)
    with pytest.raises(score.Refusal, match="recorded on other windows"):
        compare(score, world, "near.txt")
    monkeypatch.setattr(Model, "vocabulary", 10)
    with pytest.raises(score.Refusal, match=r"base\.txt: knows 10 tokens"):
        record(score, world)


def test_a_full_disk_is_seen_before_anything_is_written(
    score: ModuleType, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens(score, world)
    monkeypatch.setattr("shutil.disk_usage", lambda _: argparse.Namespace(free=20 * 7 * WORDS * 4))
    with pytest.raises(score.Refusal, match=r"20 windows of 7 places over 50 words in float32 need 0\.0 GiB"):
        record(score, world)
    assert not list((world / "base").iterdir())
