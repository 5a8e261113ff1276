"""The built wheel, installed alone in a clean environment outside the tree, plans from `/`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec import Struct

ROOT = Path(__file__).parents[2]
MEGABYTE = 1e6
LARGEST_DOWNLOAD, LARGEST_INSTALL = 80 * MEGABYTE, 200 * MEGABYTE
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


class Installed(Struct, frozen=True):
    """The wheel, the folder of wheels it needs, and the environment that has nothing else."""

    wheel: Path
    wheels: Path
    environment: Path

    def run(self, *words: str, data: Path) -> subprocess.CompletedProcess[bytes]:
        """Run a program of the environment from `/`, without anything of ours in the environment variables."""
        program, *arguments = words
        clean = {"PATH": os.environ["PATH"], "HOME": str(data), "LANEWISE_DATA_DIR": str(data)}
        command = [str(self.environment / "bin" / program), *arguments]
        return subprocess.run(command, cwd="/", env=clean, capture_output=True, check=False)


def _must(command: Sequence[str]) -> None:
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    _must([sys.executable, "-m", "build", "--outdir", str(folder / "built"), str(ROOT)])
    wheel = next((folder / "built").glob("*.whl"))
    _must([*PIP, "download", "-c", "constraints.txt", "--dest", str(folder / "wheels"), str(wheel)])
    venv.create(folder / "environment", with_pip=False)
    python = str(folder / "environment" / "bin" / "python")
    offline = ["--no-index", "--find-links", str(folder / "wheels")]
    _must([*PIP, "--python", python, "install", *offline, str(wheel)])
    return Installed(wheel=wheel, wheels=folder / "wheels", environment=folder / "environment")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_it_holds_what_it_needs_and_no_more(installed: Installed) -> None:
    names = zipfile.ZipFile(installed.wheel).namelist()
    tops = {name.split("/")[0] for name in names if not name.startswith("lanewise-")}
    assert tops == {"planner", "catalog", "probes"}
    for needed in ("planner/_templates/vllm/serve.sh.j2", "planner/_alembic/env.py", "catalog/data/prices.csv"):
        assert needed in names
    for package in ("planner", "catalog", "probes"):
        assert f"{package}/py.typed" in names
    assert [name for name in names if "test" in name.split("/")[0] or name.endswith((".pyc", ".sqlite3"))] == []


@pytest.mark.parametrize("folder", ["catalog/data", "templates", "alembic"])
def test_every_data_file_is_inside(installed: Installed, folder: str) -> None:
    names = set(zipfile.ZipFile(installed.wheel).namelist())
    prefix = folder if folder.startswith("catalog") else f"planner/_{folder}"
    files = [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    inside = {f"{prefix}/{path.relative_to(ROOT / folder).as_posix()}" for path in files}
    assert inside - names == set()
    assert files


def test_it_is_small(installed: Installed) -> None:
    assert _size(installed.wheels) <= LARGEST_DOWNLOAD
    assert _size(installed.environment) <= LARGEST_INSTALL


def test_it_keeps_plans(installed: Installed, tmp_path: Path) -> None:
    code = "import sys; from planner.store import Store; print(Store(sys.argv[1]).page().total)"
    ended = installed.run("python", "-W", "error", "-c", code, f"sqlite:///{tmp_path}/plans.sqlite3", data=tmp_path)
    assert (ended.stdout, ended.stderr) == (b"0\n", b"")


def test_it_reviews_without_charts(installed: Installed, tmp_path: Path) -> None:
    request = str(ROOT / "examples" / "support-chat.toml")
    ended = installed.run("lanewise", "review", request, "--format", "html", data=tmp_path)
    assert ended.returncode == 0
    assert b"Sign-off" in ended.stdout
    assert b"lanewise[review]" in ended.stdout
    assert b"lanewise[review]" in ended.stderr


def test_it_plans_and_writes_launch_files(installed: Installed, tmp_path: Path) -> None:
    request = str(ROOT / "examples" / "support-chat.toml")
    ended = installed.run("lanewise", "plan", request, "--json", "--out", str(tmp_path / "launch"), data=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, b"")
    plan = json.loads(ended.stdout)
    assert plan["feasible"]
    written = {path.name for path in (tmp_path / "launch").rglob("*") if path.is_file()}
    assert written == {file["name"] for file in plan["launch"]}
