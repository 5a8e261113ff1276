"""A scorer of the user's own: started as it stands, held in its own unit, and every way in which it can go wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from catalog.errors import BadInput
from planner.plan import Threshold
from planner.proving import scorer
from planner.proving.judge import Runs, judge
from planner.proving.questions import OwnItems, Questions, Scorer, extended
from planner.proving.scorer import Scores
from tests.verify.questions import plan_of
from tests.verify.test_workers import run

LENGTHS = "import json, sys; [print(len(json.loads(line)['answer'])) for line in open(sys.argv[-1])]"


def world(folder: Path, *texts: str) -> tuple[Path, Path]:
    """Items and one side's answers to them."""
    items = [
        {"id": f"{place}" * 64, "name": f"n{place}", "family": "", "prompt": f"p{place}", "expected": {"answer": place}}
        for place in range(len(texts))
    ]
    said = [{"item": item["id"], "text": text} for item, text in zip(items, texts, strict=True)]
    (folder / "items.json").write_text(json.dumps({"items": items}))
    (folder / "answers.json").write_text(json.dumps({"answers": said}))
    return folder / "items.json", folder / "answers.json"


def scored(
    folder: Path, *command: str, texts: tuple[str, ...] = ("a", "bb", "ccc")
) -> tuple[int, str, dict[str, object]]:
    """(exit code, what it wrote to stderr, scores.json where there is one)."""
    items, answers = world(folder, *texts)
    out = folder / "scores.json"
    words = ("--items", items, "--answers", answers, "--command", json.dumps(command), "--out", out)
    done = run("scorer.py", *words)
    return done.returncode, done.stderr, json.loads(out.read_text()) if out.exists() else {}


def test_it_gets_one_line_an_answer_and_prints_one_number_each(tmp_path: Path) -> None:
    code, said, made = scored(tmp_path, sys.executable, "-c", LENGTHS)
    assert (code, made["values"], made["exit_code"]) == (0, [1, 2, 3], 0), said
    rows = [json.loads(line) for line in (tmp_path / "asked.jsonl").read_text().splitlines()]
    assert rows[2] == {"id": "n2", "prompt": "p2", "answer": "ccc", "expected": 2}
    assert made["items"] == ["n0", "n1", "n2"]
    assert scorer.read((tmp_path / "scores.json").read_bytes(), "scores.json").values == (1, 2, 3)


def test_one_number_for_all_is_taken_and_its_files_are_hashed(tmp_path: Path) -> None:
    script = tmp_path / "s.py"
    script.write_text("import sys; print(' 0.25 '); print('seen', file=sys.stderr)")
    code, _, made = scored(tmp_path, sys.executable, str(script))
    assert (code, made["values"]) == (0, [0.25])
    assert set(made["files"]) == {sys.executable, str(script)}  # type: ignore[call-overload]
    assert made["log"] == "seen\n"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("print(1); print(2)", "printed 2 numbers for 3 answers"),
        ("pass", "printed 0 numbers for 3 answers"),
        ("print('good')", "has to print numbers alone"),
        ("print('nan')", "printed nan, which is no finite number"),
        ("[print(each) for each in (1, 2, '-inf')]", "printed -inf"),
        ("import sys; sys.stderr.write('no key'); sys.exit(7)", "exit code 7; it wrote no key"),
        ("import os; os.kill(os.getpid(), 9)", "ended by signal 9; it wrote nothing"),
        ("import sys; sys.stdout.buffer.write(b'\\xff\\xfe')", "has to print numbers alone"),
    ],
)
def test_a_scorer_that_fails_is_one_sentence(tmp_path: Path, code: str, says: str) -> None:
    returned, said, made = scored(tmp_path, sys.executable, "-c", code)
    assert returned == 1
    assert says in said
    assert "Traceback" not in said
    assert made == {}


@pytest.mark.parametrize("command", ["/gone/scorer", "no-such-program-anywhere", "", "a\0b", "/"])
def test_a_scorer_that_cannot_be_started_is_one_sentence(tmp_path: Path, command: str) -> None:
    returned, said, _ = scored(tmp_path, command)
    assert returned == 1
    assert "cannot be started" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "word", ["; touch pwned", "$(touch pwned)", "`touch pwned`", "{run}/x", "| cat", "-rf", "a\nb"]
)
def test_words_reach_it_as_they_stand(tmp_path: Path, word: str) -> None:
    code = "import sys, json; open(sys.argv[1], 'w').write(json.dumps(sys.argv[2:-1])); print(1)"
    returned, said, _ = scored(tmp_path, sys.executable, "-c", code, str(tmp_path / "seen"), word)
    assert returned == 0, said
    assert json.loads((tmp_path / "seen").read_text()) == [word]
    assert not Path("pwned").exists()


LIMIT = Threshold(
    statistic="scorer_difference", unit="own", bound="lower", relation=">=", value=-0.5, because="", source=""
)


def sides(base: np.ndarray, other: np.ndarray) -> tuple[Scores, Scores]:
    common = {"schema": 1, "command": ("s",), "exit_code": 0, "files": {}, "log": ""}
    names = tuple(str(place) for place in range(len(base)))
    return tuple(Scores(items=names, values=tuple(map(float, each)), **common) for each in (base, other))  # type: ignore[return-value]


@pytest.mark.parametrize(("fall", "verdict"), [(0.0, "pass"), (0.5, "inconclusive"), (2.0, "fail")])
def test_the_mean_may_fall_by_the_tolerance_in_its_own_unit(fall: float, verdict: str) -> None:
    chance = np.random.default_rng(3)
    base = chance.normal(40, 10, 400)
    found = scorer.judged(*sides(base, base - fall + chance.normal(0, 1, 400)), LIMIT)
    assert found.verdict == verdict
    assert found.value == pytest.approx(-fall, abs=0.2)
    assert found.unit == "own"
    assert (found.further is not None) == (verdict == "inconclusive")
    assert "of the baseline" in found.because


def test_bounds_do_not_depend_on_the_unit() -> None:
    chance = np.random.default_rng(4)
    base, other = chance.normal(0, 1, 60), chance.normal(0, 1, 60)
    one, many = scorer.difference("x", base, other), scorer.difference("x", 1000 * base + 7, 1000 * other + 7)
    assert one is not None
    assert many is not None
    for end in ("value", "lower", "upper"):
        assert 1000 * getattr(one, end) == pytest.approx(getattr(many, end))
    assert one.needs(-0.01) == many.needs(-10.0)


def test_the_bounds_hold_in_nineteen_runs_of_twenty() -> None:
    chance = np.random.default_rng(5)
    inside = 0
    for _ in range(400):
        base = chance.gamma(2.0, 3.0, 50)
        found = scorer.difference("x", base, base + chance.normal(-0.3, 1.0, 50))
        assert found is not None
        inside += found.lower <= -0.3
    assert inside >= 0.93 * 400


def test_a_few_answers_without_a_difference_prove_nothing() -> None:
    base = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert scorer.judged(*sides(base, base), LIMIT).verdict == "inconclusive"


def test_one_value_everywhere_and_one_number_a_side_are_inconclusive() -> None:
    found = scorer.judged(*sides(np.ones(50), np.ones(50)), LIMIT)
    assert (found.verdict, found.value) == ("inconclusive", None)
    assert "nothing could show" in found.because
    common = {"schema": 1, "command": ("s",), "exit_code": 0, "files": {}, "log": "", "items": ("a", "b")}
    found = scorer.judged(Scores(values=(0.8,), **common), Scores(values=(0.2,), **common), LIMIT)
    assert (found.verdict, found.lower) == ("inconclusive", None)
    assert found.value == pytest.approx(-0.6)
    assert "one number has no interval" in found.because


def test_sides_that_are_no_pairs_are_refused() -> None:
    one, two = sides(np.ones(3), np.zeros(3))
    for other, says in (
        (msgspec.structs.replace(two, command=("t",)), "the same command"),
        (msgspec.structs.replace(two, files={"s": "1"}), "the same command"),
        (msgspec.structs.replace(two, items=("a", "b", "c")), "not the same items"),
        (msgspec.structs.replace(two, values=(1.0,)), "not the same items"),
    ):
        with pytest.raises(BadInput, match=says):
            scorer.judged(one, other, LIMIT)
    for data in (b"", b"{}", msgspec.json.encode(msgspec.structs.replace(one, values=(1.0, 2.0)))):
        with pytest.raises(BadInput, match="scores"):
            scorer.read(data, "scores.json")


def test_a_scorer_is_a_gate_that_decides() -> None:
    candidate = plan_of("gptq-int4").choice
    assert candidate is not None
    assert candidate.verification is not None
    own = OwnItems(files=("/t.jsonl",), asked={"": 10})
    asked = Questions(own=own, scorer=Scorer(command=("s",), tolerance=0.5))
    made = extended(candidate, asked).verification
    assert made is not None
    assert made.gates[:-1] == candidate.verification.gates
    gate = made.gates[-1]
    assert (gate.id, gate.decides, gate.thresholds[0].value) == ("scorer", True, -0.5)
    chance = np.random.default_rng(3)
    base = chance.normal(40, 1, 400)
    bad = scorer.judged(*sides(base, base - 5), LIMIT)
    found = judge(made, Runs(checks={"scorer": (bad,)}))
    assert (found.verdict, found.because) == ("fail", "scorer failed")
    assert extended(candidate, Questions()) == candidate
