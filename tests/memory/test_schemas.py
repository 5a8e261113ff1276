"""Our choice of a block for every tensor is llama.cpp's own, for twelve models and every file type."""

from __future__ import annotations

import csv

import pytest

from planner.lanes import mixture
from tests.memory import schemas
from tests.tools.llamacpp import llamacpp


def kept() -> dict[tuple[str, str], str]:
    with schemas.DIGESTS.open() as file:
        return {(row["model"], row["type"]): row["sha256"] for row in csv.DictReader(file)}


@pytest.mark.parametrize("snapshot", schemas.SUBJECTS)
def test_every_tensor_gets_the_block_that_llama_cpp_gives_it(snapshot: str) -> None:
    types = [kind for model, kind in kept() if model == snapshot]
    assert len(types) == 33
    subject = schemas.SUBJECTS[snapshot]
    wrong = [kind for kind in types if schemas.digest(schemas.ours(subject, kind)) != kept()[snapshot, kind]]
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("snapshot", schemas.SUBJECTS)
def test_the_kept_digests_are_those_of_llama_cpp_s_own_files(snapshot: str) -> None:
    text = (llamacpp().source / "tests" / "snapshots" / f"{snapshot}.schema").read_text()
    read = dict(schemas.sections(text))
    for kind, lines in read.items():
        found = schemas.ours(schemas.SUBJECTS[snapshot], kind)
        assert [line.lower() for line in found] == [line.lower() for line in lines], kind
    assert {kind: schemas.digest(lines) for kind, lines in read.items()} == {
        kind: value for (model, kind), value in kept().items() if model == snapshot
    }


@pytest.mark.parametrize(
    ("block", "columns", "becomes"),
    [("Q4_K", 576, "Q5_0"), ("Q6_K", 576, "Q8_0"), ("IQ2_XS", 640, "IQ4_NL"), ("TQ1_0", 640, "Q4_0"),
     ("Q2_0", 96, "Q4_0"), ("Q8_0", 40, "F16"), ("Q5_K", 40, "F16"), ("MXFP4", 48, "F16"), ("Q4_K", 512, "Q4_K")],
)  # fmt: skip
def test_a_row_that_a_block_does_not_divide_gets_a_smaller_one(block: str, columns: int, becomes: str) -> None:
    assert mixture.fitting(block, columns) == becomes
