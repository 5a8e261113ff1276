"""The nouns of starting a server: what the user chose, and what will be run. Pure; `planner/render.py` writes it down.

A launch target is a folder of templates and one line in `TARGETS`.
"""

from __future__ import annotations

from msgspec import Struct

from catalog.errors import BadInput, Unsupported
from planner.plan import Candidate, LaunchFile, Pool

Value = str | int | float | bool | dict[str, object]
"""What a setting may hold; True stands for a flag without a value."""


class Adapter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A LoRA adapter to load with the model."""

    name: str
    path: str


class LaunchOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a plan does not decide: names, addresses, folders."""

    model: str
    """The request's model: a Hugging Face id, a folder or a `.gguf` file."""
    revision: str | None = None
    """Of `model`; a published artefact carries its own."""
    model_path: str | None = None
    """Where the weights really are on the serving machine; replaces every repository."""
    served_name: str | None = None
    """What clients ask for; None: the request's model."""
    host: str = "127.0.0.1"
    port: int | None = None
    """None: the engine's own. Replicas count upwards from it."""
    adapters: tuple[Adapter, ...] = ()
    max_lora_rank: int = 16
    air_gapped: bool = False
    merged: bool = False
    """An adapter is merged into `model` first: the merged folder is what is opened or quantized."""

    @property
    def base(self) -> tuple[str, str | None]:
        """The 16-bit weights to open or to quantize, and their revision."""
        if self.merged:
            return f"./{self.model.rstrip('/').rpartition('/')[2]}-merged", None
        return self.model, self.revision


class Launch(Struct, frozen=True, kw_only=True):
    """One server process of one replica, as the engine's own words."""

    target: str
    program: tuple[str, ...]
    """The command and what the user named: model, revision, served name, address, adapters."""
    settings: dict[str, Value]
    """The plan's numbers: flag without its dashes -> value, in the order they are written."""
    env: dict[str, str]
    model: str
    """Repository, folder or file that the engine opens."""
    revision: str | None
    served_name: str
    host: str
    port: int
    replicas: int
    devices_per_replica: int
    device_variable: str | None
    """Environment variable that pins devices; None where the backend has none (Metal, CPU)."""
    devices: tuple[str, ...] = ()
    """What it may name, where the machine was probed: the plan's replicas share these."""

    @property
    def argv(self) -> tuple[str, ...]:
        """The whole command of the first replica, as one process would receive it."""
        return (*self.program, *arguments(self.settings), "--port", str(self.port))


class Target(Struct, frozen=True, kw_only=True):
    """A folder in `templates/` that serves one engine; `files` are its templates without `.j2`."""

    name: str
    engine: str
    files: tuple[str, ...]
    executable: tuple[str, ...] = ("serve.sh",)

    def launch_files(self) -> tuple[LaunchFile, ...]:
        """What a plan lists under `launch`."""
        return tuple(LaunchFile(target=self.name, name=name, executable=name in self.executable) for name in self.files)


TARGETS = (
    Target(name="vllm", engine="vllm", files=("serve.sh", "config.yaml", "vllm.env", "README.md")),
    Target(name="llamacpp", engine="llama.cpp", files=("serve.sh", "llama-server.env", "README.md")),
)


def target_of(engine: str) -> Target:
    """The target that launches `engine`; Unsupported for engines that are estimated only."""
    for target in TARGETS:
        if target.engine == engine:
            return target
    raise Unsupported(f"no launch files for {engine}; there are some for {', '.join(t.engine for t in TARGETS)}")


def arguments(settings: dict[str, Value]) -> tuple[str, ...]:
    """Settings as command-line words; False writes nothing."""
    words: list[str] = []
    for name, value in settings.items():
        if value is True:
            words.append(f"--{name}")
        elif value is not False:
            words += [f"--{name}", str(value)]
    return tuple(words)


def serving_pool(candidate: Candidate) -> Pool:
    """The one pool of equal devices that serves; Unsupported when there are several."""
    if len(candidate.pools) != 1:
        raise Unsupported(f"launch files for {len(candidate.pools)} pools; one is planned", "$.choice.pools")
    return candidate.pools[0]


def devices_per_replica(pool: Pool) -> int:
    """Devices that one server process holds."""
    return pool.tensor_parallel * pool.pipeline_parallel * pool.data_parallel


def in_order(pool: Pool) -> dict[str, str]:
    """Probed devices are numbered as the driver does; CUDA counts the fastest first unless it is told."""
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if pool.settings.devices else {}


def named(text: str, path: str) -> str:
    """`text` if a process can be given it at all: BadInput when it is empty or holds a NUL or a lone surrogate."""
    if not text or "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise BadInput(f"expected a name that can be passed to a process, found {text!r}", path)
    return text


def opened(reference: str) -> str:
    """A model reference as a positional argument: a leading dash would be read as a flag, so it becomes a path."""
    return f"./{reference}" if reference.startswith("-") else reference
