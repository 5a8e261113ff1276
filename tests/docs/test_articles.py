"""Every claim of the three source articles is numbered, and answered once."""

from __future__ import annotations

import csv
import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from catalog.units import GIB
from planner import cli, rules

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
import articles  # noqa: E402

FOUND = articles.load()
IDS = [article.id for article in FOUND.article]


@pytest.mark.parametrize("article", FOUND.article, ids=IDS)
def test_every_sentence_has_a_claim_or_states_nothing(article: articles.Article) -> None:
    claimed = {claim.sentence for claim in FOUND.claim if claim.article == article.id}
    silent = set(article.states_nothing)
    assert len(silent) == len(article.states_nothing)
    assert claimed & silent == set()
    assert claimed | silent == set(range(1, article.sentences + 1))


def test_claims_are_numbered_once_and_in_reading_order() -> None:
    numbers = [claim.id for claim in FOUND.claim]
    assert numbers == sorted(set(numbers))
    assert {claim.article for claim in FOUND.claim} == set(IDS)


def test_parts_of_a_sentence_are_lettered_from_a() -> None:
    by_sentence: dict[str, list[str]] = {}
    for claim in FOUND.claim:
        by_sentence.setdefault(claim.id[:6], []).append(claim.id[6:])
    whole, several = [""], {count: list("abcdefgh"[:count]) for count in range(2, 9)}
    assert [parts for parts in by_sentence.values() if parts not in (whole, several.get(len(parts)))] == []


def test_every_cited_rule_exists() -> None:
    cited = {code for claim in FOUND.claim for code in claim.rules}
    assert cited - rules.BY_CODE.keys() == set()


def test_every_cited_row_exists() -> None:
    known = {row["id"] for name in ("evidence.csv", "truth/speed.csv") for row in rows(name)}
    text = articles.DATA.read_text(encoding="utf-8")
    cited = set(re.findall(r"\bQ\d{4}\b|\b(?:GSQ|GST|XD|AIC)-\d{5}\b", text))
    assert len(cited) > 50
    assert cited - known == set()


def rows(name: str) -> list[dict[str, str]]:
    with (ROOT / "catalog" / "data" / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


CLAIM = {"id": "A1-001", "claim": "a", "kind": "quality"}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, "exactly one of"),
        ({"unsupported": "b", "out_of_scope": "c"}, "exactly one of"),
        ({"how": "b"}, "rules belong"),
        ({"unsupported": "b", "rules": ["Q101"]}, "rules belong"),
        ({"rules": ["Q101"]}, "exactly one of"),
        ({"correction": "b", "value": "c"}, "a value and a source"),
        ({"unsupported": "b", "source": "c"}, "a value and a source"),
        ({"unsupported": "b", "kind": "taste"}, "Invalid enum"),
        ({"unsupported": "b", "claim": ""}, "needs a claim"),
        ({"unsupported": "b", "id": "A1-1"}, "not like"),
        ({"unsupported": "b", "verdict": "c"}, "unknown field"),
    ],
)
def test_a_claim_with_no_answer_or_two_is_refused(more: dict[str, Any], told: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=told):
        msgspec.convert(CLAIM | more, articles.Claim)


def test_the_page_answers_every_claim_and_indexes_every_rule() -> None:
    page = articles.articles_page()
    assert [claim.id for claim in FOUND.claim if page.count(f"| {claim.id} | ") != 1] == []
    index = page.partition("## Rules and the claims they answer")[2]
    assert [
        claim.id for claim in FOUND.claim for code in claim.rules
        if not re.search(rf"^\| \[{code}\].*\b{claim.id}\b", index, re.MULTILINE)
    ] == []  # fmt: skip


SIZES = {"to 4B": (0, 4.5), "5-15B": (4.5, 15.5), "16-50B": (15.5, 50.5), "51-120B": (50.5, 120), "above": (120, 1e4)}


@pytest.mark.parametrize(
    ("number", "methods", "medians"),
    [
        ("A1-040a", ("INT8", "GPTQ_INT8"), {"to 4B": "100.0", "5-15B": "99.1", "51-120B": "99.6"}),
        ("A1-040b", ("AWQ_INT4",), {"to 4B": "95.4", "5-15B": "98.2", "16-50B": "99.5", "51-120B": "99.3"}),
        ("A1-040c", ("GPTQ_INT4",),
         {"to 4B": "96.6", "5-15B": "98.0", "16-50B": "98.8", "51-120B": "99.4", "above": "99.8"}),
    ],
)  # fmt: skip
def test_quoted_medians_are_those_of_the_shipped_evidence(
    number: str, methods: tuple[str, ...], medians: dict[str, str]
) -> None:
    kept = [row for row in rows("evidence.csv") if row["method"].startswith(methods) and short_score(row)]
    for words, quoted in medians.items():
        low, high = SIZES[words]
        found = [float(row["recovery"]) for row in kept if low < float(row["params"]) / 1e9 <= high]
        assert f"{statistics.median(found):.1f}" == quoted
        assert quoted in answer(number)


def short_score(row: dict[str, str]) -> bool:
    """Whether a row is a score above chance on a context of at most 16k tokens, of a source to be trusted."""
    weak = row["higher_is_better"] == "1" and 1 < float(row["baseline"]) < 10
    short = float(row["context_tokens"] or 0) <= 16384
    return short and not weak and row["grade"] != "C" and bool(row["recovery"]) and "ppl" not in row["task"].lower()


LLAMA = "--model meta-llama/Llama-3.1-70B-Instruct --users 1 --prompt 500 --output 200 --mix chat=1 --max-loss 20 "
QWEN = "--model Qwen/Qwen2-7B-Instruct --users 1 --prompt 100 --output 200 --mix chat=1 --max-loss 20 "


@pytest.mark.parametrize(
    ("number", "quoted", "request_"),
    [
        ("A1-006a", "131.4 GiB", LLAMA + "--on a100-sxm4-80:2 --lanes bf16"),
        ("A1-007a", "67.7 GiB", LLAMA + "--on a100-sxm4-80:1 --lanes int8-w8a8"),
        ("A1-008", "36.8 to 39.0 GiB", LLAMA + "--on h200-sxm5:1 --lanes gguf:Q4_K_M"),
        ("A2-020c", "W4A16 36.8", LLAMA + "--on h200-sxm5:1 --lanes w4a16"),
        ("A2-020c", "AWQ 37.1", LLAMA + "--on h200-sxm5:1 --lanes awq-int4"),
        ("A2-074a", "14.2 GiB", QWEN + "--on a100-sxm4-80:1 --lanes bf16"),
        ("A2-075a", "8.2 GiB", QWEN + "--on a100-sxm4-80:1 --lanes int8-w8a16"),
        ("A2-078a", "5.2 GiB", QWEN + "--on a100-sxm4-80:1 --lanes awq-int4"),
    ],
)
def test_quoted_weights_are_what_is_planned(
    number: str, quoted: str, request_: str, capsys: pytest.CaptureFixture[str]
) -> None:
    choice = planned(request_, capsys)["choice"]
    layout = choice["pools"][0]
    devices = layout["tensor_parallel"] * layout["pipeline_parallel"]
    gib = round(choice["estimates"]["weight_bytes"]["value"] * devices / 2**30, 1)
    assert quoted in answer(number)
    assert gib == pytest.approx(float(re.findall(r"\d+\.\d", quoted)[-1]), abs=0.1)


@pytest.mark.parametrize(
    ("number", "request_"),
    [
        ("A1-013a", LLAMA + "--on rtx4090:1 --lanes w4a16,awq-int4,gptq-int4,gguf:Q4_K_M"),
        ("A1-017b", LLAMA + "--on a10:1 --lanes w4a16,awq-int4,gptq-int4,gguf:Q4_K_M"),
        ("A1-054b", LLAMA + "--on a10g:1 --lanes w4a16,awq-int4,gptq-int4,gguf:Q4_K_M"),
    ],
)
def test_what_is_said_not_to_fit_is_refused_for_its_weights(
    number: str, request_: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = planned(request_, capsys)
    assert not plan["feasible"]
    assert {refusal["finding"]["rule"] for refusal in plan["refused"]} == {"H201"}
    assert "H201" in answer(number)


def test_four_cards_hold_a_70b_and_little_else(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "meta-llama/Llama-3.1-70B-Instruct", "--on", "a100-sxm4-40:4", "--lane", "bf16", "--json"]
    assert cli.main(words) == cli.INFEASIBLE
    (whole,) = json.loads(capsys.readouterr().out)["outcomes"]
    assert [reason["rule"] for reason in whole["reasons"]] == ["H202"]
    assert cli.main([*words, "--context", "4096"]) == cli.DONE
    (short,) = json.loads(capsys.readouterr().out)["outcomes"]
    parts, said = {part["name"]: part["bytes"] for part in short["picture"]["parts"]}, answer("A2-004a")
    assert f"{parts['weights']['value'] / GIB:.1f} GiB of weights per card" in said
    assert f"a cache of {parts['KV cache']['value'] / GIB:.1f} GiB" in said
    assert short["picture"]["margin"]["low"] < 0
    assert f"{short['picture']['longest_context']:,} tokens of context at most" in said


def planned(request_: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The plan for the words of a command."""
    assert cli.main(["plan", *request_.split(), "--json"]) in {cli.DONE, cli.INFEASIBLE}
    plan: dict[str, Any] = json.loads(capsys.readouterr().out)
    return plan


def answer(number: str) -> str:
    """The words and rules of the answer to one claim."""
    (claim,) = [claim for claim in FOUND.claim if claim.id == number]
    return " ".join([claim.how, claim.correction, claim.value, *claim.rules])
