"""Which task of lm-eval stands for a benchmark of gates.toml. Plans do not depend on it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
from msgspec import Struct, field

from catalog.errors import BadInput

FILE = "lm_eval.toml"
DATA = Path(__file__).parent / "data"


class PublicTask(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A benchmark as lm-eval runs it, or why it does not."""

    benchmark: str
    """Its name in gates.toml."""
    lm_eval: str = ""
    metric: str = ""
    """The score of a document; the task's first where none is named."""
    filter: str = ""
    """What reads the answer out of the text, likewise."""
    data: str = ""
    """The hub's data set."""
    answer_tokens: int = 256
    """Of an answer, at most, where the task says nothing: lm-eval's own number, or a larger one (assumed)."""
    retrieval: bool = False
    """Its documents are made on this machine, as long as the served context."""
    because: str = ""
    """Why it is not run."""
    note: str = ""
    source: str


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    tasks: tuple[PublicTask, ...] = field(name="task")


def load(folder: Path = DATA) -> dict[str, PublicTask]:
    """Benchmark -> its task. Raises BadInput naming the file and what is wrong."""
    path = folder / FILE
    try:
        read = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _File)
    except (OSError, ValueError) as fault:
        raise BadInput(str(fault), str(path)) from fault
    for task in read.tasks:
        if bool(task.lm_eval) == bool(task.because):
            raise BadInput(f"{task.benchmark}: expected lm_eval, or why it is not run", str(path))
        if task.lm_eval and not task.retrieval and not task.data:
            raise BadInput(f"{task.benchmark}: expected its data set", str(path))
    found = {task.benchmark: task for task in read.tasks}
    if len(found) < len(read.tasks):
        raise BadInput("a benchmark stands twice", str(path))
    return found
