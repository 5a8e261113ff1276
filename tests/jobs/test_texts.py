"""Texts of a job as files of the worker's machine: sent along, or out of the one folder that it may read."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalog.errors import BadInput
from planner.jobqueue import ask
from planner.jobqueue.ask import GivenText, VerifyAsk


def test_what_was_sent_lies_where_the_same_content_lay_before(tmp_path: Path) -> None:
    sent = VerifyAsk(texts=(GivenText(name="a.txt", content="one é"), GivenText(name="a.txt", content="two")))
    first = ask.choice(sent, tmp_path, None).texts
    assert [path.read_text(encoding="utf-8") for path in first] == ["one é", "two"]
    assert [path.name for path in first] == ["a.txt", "a.txt"]
    changed = first[0].stat().st_mtime_ns
    assert ask.choice(sent, tmp_path, None).texts == first
    assert first[0].stat().st_mtime_ns == changed
    first[0].write_text("touched")
    assert ask.choice(sent, tmp_path, None).texts[0].read_text(encoding="utf-8") == "one é"


def test_a_named_file_lies_in_the_folder_itself(tmp_path: Path) -> None:
    inside, outside = tmp_path / "texts", tmp_path / "secret.txt"
    inside.mkdir()
    outside.write_text("secret")
    (inside / "own.txt").write_text("own")
    (inside / "deep").mkdir()
    (inside / "link.txt").symlink_to(outside)
    named = VerifyAsk(calibration=(GivenText(file="own.txt"),))
    assert ask.choice(named, tmp_path, inside).calibration == (inside / "own.txt",)
    for name in ("link.txt", "deep", "none.txt"):
        with pytest.raises(BadInput, match="no such file in the worker's folder of texts"):
            ask.choice(VerifyAsk(texts=(GivenText(file=name),)), tmp_path, inside)
    with pytest.raises(BadInput, match="has no folder of texts"):
        ask.choice(named, tmp_path, None)


def test_minutes_become_seconds(tmp_path: Path) -> None:
    found = ask.choice(ask.decode(b'{"budget_minutes": 1.5, "lane": "fp8", "seed": 3}'), tmp_path, None)
    assert (found.budget_s, found.lane, found.seed, found.texts) == (90.0, "fp8", 3, ())
