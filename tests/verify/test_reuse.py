"""Steps of one run that another takes: only where everything is the same, and only whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

from planner.proving.steps import Program
from planner.running import reuse, runstate
from tests.verify.worlds import COPY, chain, program, ran, states, step


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "plan" / "one", tmp_path / "plan" / "two"


def test_another_lane_takes_what_both_need(folders: tuple[Path, Path]) -> None:
    first, _ = ran(chain(), folders[0])
    second, seen = ran(chain("C"), folders[1], reuse=(folders[0].parent,))
    assert states(second) == {"a": "kept", "b": "kept", "c": "done"}
    assert seen.began == ["c"]
    assert [each.made for each in second.results[:2]] == [each.made for each in first.results[:2]]
    assert str(folders[0]) in second.results[0].because
    assert (folders[1] / "c" / "made").read_text() == "abC"
    assert (folders[1] / "a" / "made").samefile(folders[0] / "a" / "made")
    assert (folders[1] / "logs" / "a.log").exists()


def test_what_was_taken_is_kept_when_the_other_run_is_gone(folders: tuple[Path, Path]) -> None:
    ran(chain(), folders[0])
    ran(chain(), folders[1], reuse=(folders[0],))
    for each in ("a", "b", "c"):
        (folders[0] / each / "made").unlink()
    again, _ = ran(chain(), folders[1])
    assert set(states(again).values()) == {"kept"}


@pytest.mark.parametrize(
    "harm",
    [
        lambda made: made.write_text("other"),
        lambda made: made.unlink(),
        lambda made: (made.unlink(), made.mkdir()),
        lambda made: made.parents[1].joinpath(runstate.STATE).write_text("{"),
        lambda made: made.parents[1].joinpath(runstate.STATE).unlink(),
    ],
)
def test_what_is_no_longer_what_it_was_is_made_anew(folders: tuple[Path, Path], harm: object) -> None:
    ran(chain(), folders[0])
    harm(folders[0] / "b" / "made")  # type: ignore[operator]
    found, _ = ran(chain(), folders[1], reuse=(folders[0],))
    assert states(found)["b"] == "done"
    assert (folders[1] / "c" / "made").read_text() == "abc"
    assert not any((folders[1] / "unfinished").iterdir())


def test_another_version_of_the_tool_takes_nothing(folders: tuple[Path, Path]) -> None:
    from tests.verify.worlds import Here

    ran(chain(), folders[0])
    found, _ = ran(chain(), folders[1], reuse=(folders[0],), environments=Here(folders[1].parent, version="2"))
    assert set(states(found).values()) == {"done"}


def test_a_run_takes_nothing_of_itself(folders: tuple[Path, Path]) -> None:
    """A step of its own that changed is not taken back from its own folder."""
    ran(chain(), folders[0])
    (folders[0] / "a" / "made").write_text("z")
    found, _ = ran(chain(), folders[0], reuse=(folders[0].parent,))
    assert states(found) == {"a": "done", "b": "kept", "c": "kept"}


def reading(text: Path) -> Program:
    return program(step("a", COPY, str(text), "{out}/made", "!", reads=(str(text),)))


def test_a_file_of_the_users_is_hashed_once(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "own.txt"
    text.write_text("large")
    ran(reading(text), folders[0])
    hashed: list[Path] = []
    real = runstate.sha256
    monkeypatch.setattr(runstate, "sha256", lambda path: (hashed.append(path), real(path))[1])
    ran(reading(text), folders[1], reuse=(folders[0],))
    assert hashed == []


def test_links_to_elsewhere_stay_links(folders: tuple[Path, Path], tmp_path: Path) -> None:
    code = "import os, sys; os.mkdir(sys.argv[1]); os.symlink(sys.argv[2], sys.argv[1] + '/file')"
    (tmp_path / "own").write_text("own")
    linking = program(step("a", code, "{out}/made", str(tmp_path / "own")))
    ran(linking, folders[0])
    found, _ = ran(linking, folders[1], reuse=(folders[0],))
    assert states(found) == {"a": "kept"}
    assert (folders[1] / "a" / "made" / "file").readlink() == tmp_path / "own"


def test_steps_say_nothing_of_the_folder_that_they_ran_in(folders: tuple[Path, Path]) -> None:
    """Two runs apart make the same files, so that a third can take from either."""
    telling = program(step("a", "import sys; open(sys.argv[1], 'w').write(sys.argv[2])", "{out}/made", "{run}/b"))
    first, second = (ran(telling, folder)[0].results[0] for folder in folders)
    assert first.made == second.made
    assert first.command == second.command


def test_runs_are_found_at_three_depths_and_once(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "a", tmp_path / "a" / "b"):
        folder.mkdir(exist_ok=True)
        (folder / runstate.MARKER).write_text("x")
        (folder / runstate.STATE).write_text("{}")
    found = [path for path, _ in reuse.runs((tmp_path, tmp_path / "a", tmp_path / "gone"))]
    assert found == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]


def test_without_a_hard_link_files_are_copied(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(18, "cross-device link")

    ran(chain(), folders[0])
    monkeypatch.setattr("os.link", refused)
    found, _ = ran(structs.replace(chain(), notes=("other",)), folders[1], reuse=(folders[0],))
    assert set(states(found).values()) == {"kept"}
    assert not (folders[1] / "a" / "made").samefile(folders[0] / "a" / "made")
