"""Receipts for others: nothing of this machine's folders is left, and nothing else is changed."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from planner import cli, service
from planner.proving.receipt import Receipt
from planner.running import runstate, sharing, verify
from planner.settings import Settings
from tests.verify.test_receipt import written


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    return Settings(catalog_dir=tmp_path, database_url="sqlite://", tools_dir=tmp_path / "tools")


def receipt_in(run: Path) -> Receipt:
    """A whole receipt with this folder, the tools' and a file of the user's in its words."""
    run.mkdir(parents=True)
    root = run.parents[1]
    _, made = written({})
    text = str(root / "own text.txt")
    steps = tuple(
        structs.replace(
            each, read={text: "1" * 64}, because=f"ended well in {run.parent / 'other'}",
            command=(str(root / "tools" / "x" / "python"), str(run / "candidate"), text),
        )
        for each in made.steps
    )  # fmt: skip
    reproduce = ("lanewise", "verify", str(root / "plan.json"))
    return structs.replace(made, steps=steps, data={text: "1" * 64}, reproduce=reproduce)


def test_no_folder_of_this_machine_is_left(tmp_path: Path, own: Settings) -> None:
    run = tmp_path / "runs" / "one"
    made = receipt_in(run)
    told = service.encode(sharing.shared(made, run, own)).decode()
    assert str(tmp_path) in service.encode(made).decode()
    assert str(tmp_path) not in told
    assert str(Path.home()) not in told


def test_a_step_that_another_installation_ran_keeps_no_folder_of_it(tmp_path: Path, own: Settings) -> None:
    run = tmp_path / "runs" / "one"
    made = receipt_in(run)
    other = ("/srv/other/.venv/bin/python", "/srv/other/planner/workers/score.py", f"--out={run}/x", "--log=/srv/log")
    steps = tuple(structs.replace(each, command=other, said={"script": other[1]}) for each in made.steps)
    plain = sharing.shared(structs.replace(made, steps=steps), run, own)
    assert {each.command for each in plain.steps} == {
        ("{elsewhere}/python", "{workers}/score.py", "--out={run}/x", "--log={elsewhere}/log")
    }
    assert "/srv/" not in service.encode(plain).decode()


def test_hashes_numbers_and_verdicts_stay(tmp_path: Path, own: Settings) -> None:
    run = tmp_path / "runs" / "one"
    made = receipt_in(run)
    plain = sharing.shared(made, run, own)
    assert plain.artefacts == made.artefacts
    assert sorted(plain.data.values()) == sorted(made.data.values())
    assert (plain.gates, plain.verdict, plain.versions) == (made.gates, made.verdict, made.versions)
    assert [(each.id, each.state, each.seconds) for each in plain.steps] == [
        (each.id, each.state, each.seconds) for each in made.steps
    ]


def test_the_command_writes_documents_that_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "runs" / "one"
    made = receipt_in(run)
    runstate.write(run / verify.RECEIPT, service.encode(made))
    assert cli.main(["receipts", str(tmp_path / "runs"), "--share", str(tmp_path / "out")]) == 0
    target = tmp_path / "out" / "one.json"
    assert capsys.readouterr().out == f"{target}\n"
    assert msgspec.json.decode(target.read_bytes(), type=Receipt).plan_id == made.plan_id
    assert json.loads(target.read_text())["schema"] == 1
    assert target.with_suffix(".md").read_text().startswith("#")
