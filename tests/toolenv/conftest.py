"""A throw-away package index: one tiny package, built here, and tools of the user's own that are made of it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PROGRAM = '#!/bin/sh\n[ -z "$TOY_BROKEN" ] || exit 7\necho "toy version: $(dirname "$0" | wc -c) 1.0"\n'
TOOL = """[[tool]]
id = "{name}"
does = "shows that environments work"
folder = "{name}-1.0"
packages = ["{package}==1.0"]
systems = ["linux x86_64", "linux aarch64", "darwin arm64", "darwin x86_64"]
expected_s = 3
disk = "{disk}"
source = "a test"
[tool.repairs]
remove = ["ballast"]
[[tool.repairs.alias]]
name = "toy-alias"
of = "{package}"
suffix = "+here"
because = "a test"
[[tool.repairs.patch]]
file = "{package}/__init__.py"
old = "ANSWER = 41"
new = "ANSWER = 42"
because = "a test"
[[tool.program]]
name = "toy"
says = 'version: .* (\\d\\.\\d)'
"""
BACKEND = """
import os, pathlib, shutil, time

def build_wheel(folder, config_settings=None, metadata_directory=None):
    pathlib.Path(os.environ["TOY_GATE"] + ".pid").write_text(str(os.getpid()))
    while not os.path.exists(os.environ["TOY_GATE"]):
        time.sleep(0.05)
    return os.path.basename(shutil.copy("slow-1.0-py3-none-any.whl", folder))
"""


@dataclass
class Bench:
    """`lanewise` with its own folders, and pip that knows this index alone."""

    folder: Path
    environ: dict[str, str]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *words: str, **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "planner", *words], env=self.environ | env, text=True, cwd=self.folder,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.started.append(process)
        return process

    def end(self) -> None:
        """Nothing that a failed test has started goes on."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*words, **env)
        out, err = process.communicate(timeout=120)
        assert "Traceback" not in err
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    @property
    def tools(self) -> Path:
        return self.folder / "tools"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index")
    packed(folder / "toy-1.0-py3-none-any.whl", wheel("toy", requires="ballast"))
    packed(folder / "ballast-1.0-py3-none-any.whl", wheel("ballast"))
    source(folder / "slow-1.0.tar.gz")
    return folder


@pytest.fixture(scope="module")
def bench_at(index: Path) -> Callable[[Path], Bench]:
    def made(folder: Path) -> Bench:
        catalogue = folder / "catalogue"
        catalogue.mkdir(parents=True)
        small, large = "1 MB", "900000 TB"
        cases = (("toy", "toy", small), ("slow", "slow", small), ("absent", "nowhere", small), ("huge", "toy", large))
        (catalogue / "tools.toml").write_text(
            "".join(TOOL.format(name=name, package=package, disk=disk) for name, package, disk in cases)
        )
        own = {
            "LANEWISE_TOOLS_DIR": str(folder / "tools"), "LANEWISE_CATALOG_DIR": str(catalogue),
            "LANEWISE_DATA_DIR": str(folder / "data"), "PYTHONPATH": str(Path(__file__).parents[2]),
            "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_NO_CACHE_DIR": "1",
            "TOY_GATE": str(folder / "gate"),
        }  # fmt: skip
        return Bench(folder, {**os.environ, **own})

    return made


@pytest.fixture(scope="module")
def made(bench_at: Callable[[Path], Bench], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """`toy`, installed once for the tests that leave it as it is or put it back."""
    bench = bench_at(tmp_path_factory.mktemp("made"))
    done = bench.run("tools", "install", "toy")
    assert (done.returncode, done.stdout.split(" (")[0]) == (0, "toy is ready"), done.stderr
    return bench


@pytest.fixture
def bench(bench_at: Callable[[Path], Bench], tmp_path: Path) -> Iterator[Bench]:
    made = bench_at(tmp_path)
    yield made
    made.end()


def wheel(name: str, requires: str = "") -> dict[str, str]:
    """Files of a wheel with one module and one program."""
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    note = f"{name}-1.0.dist-info"
    return {
        f"{name}/__init__.py": "ANSWER = 41\n",
        f"{name}-1.0.data/scripts/{'toy' if name in {'toy', 'slow'} else name}": PROGRAM,
        f"{note}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}",
        f"{note}/WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{note}/RECORD": "",
    }


def packed(place: Path | io.BytesIO, files: dict[str, str]) -> None:
    """With the right to be executed, as programs need it."""
    with zipfile.ZipFile(place, "w") as made:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o100755 << 16
            made.writestr(entry, text)


def source(path: Path) -> None:
    """A package that is built at install, and waits for a file before it is."""
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    ready = io.BytesIO()
    packed(ready, wheel("slow"))
    files = {
        "pyproject.toml": (project + '[project]\nname = "slow"\nversion = "1.0"\n').encode(),
        "PKG-INFO": b"Metadata-Version: 2.1\nName: slow\nVersion: 1.0\n",
        "backend.py": BACKEND.encode(),
        "slow-1.0-py3-none-any.whl": ready.getvalue(),
    }
    with tarfile.open(path, "w:gz") as made:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"slow-1.0/{name}")
            entry.size = len(data)
            made.addfile(entry, io.BytesIO(data))
