"""An inventory for people, in the terminal. Layout only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich import box
from rich.markup import escape
from rich.table import Table

from catalog.inventory import Gpu, Host, Inventory, Link
from planner.report import console
from planner.wording import short

GIB = 2.0**30
WAYS = {
    "pcie-switch": "PCIe switches",
    "pcie-host": "PCIe through the host bridge",
    "numa": "PCIe within a NUMA node",
    "system": "PCIe between NUMA nodes",
}


def show(inventory: Inventory) -> None:
    """Host, devices, who is on them, how they are linked, what could not be read."""
    out = console()
    host = inventory.host
    out.print(f"[bold]{escape(_kind(host))}[/] at {inventory.probed_at}")
    out.print(_rows(inventory))
    if inventory.gpus:
        out.print(_devices(inventory.gpus))
    remarks = Table.grid(padding=(0, 2, 0, 0))
    for line in _links(inventory.gpus):
        remarks.add_row("links", line)
    for problem in _problems(inventory):
        remarks.add_row("[yellow]note[/]", escape(problem))
    if remarks.row_count:
        out.print(remarks)


def _kind(host: Host) -> str:
    inside = f" in {host.container}" if host.container else ""
    return f"{host.system} {host.machine}{inside}".strip() or "a machine"


def _rows(inventory: Inventory) -> Table:
    host, grid = inventory.host, Table.grid(padding=(0, 2, 0, 0))
    rows = {
        "CPU": _cpu(host),
        "flags": " ".join(host.flags),
        "RAM": _share(host.ram_available_bytes, host.ram_bytes),
        "limit": _gib(host.cgroup_memory_bytes, "of memory for this container or service"),
        "GPU may use": _gib(host.gpu_working_set_bytes, "of the RAM"),
        "disk": _gib(host.disk_free_bytes, f"free at {host.disk_path}"),
        "driver": ", ".join([*_some("", inventory.driver), *_some("CUDA ", inventory.cuda)]),
    }
    for label, text in rows.items():
        if text:
            grid.add_row(f"  {label}", escape(text))
    for engine in inventory.engines:
        grid.add_row("  engine", escape(f"{engine.id} {engine.version or 'of unknown version'} ({engine.found})"))
    return grid


def _cpu(host: Host) -> str:
    key = f" ({host.accelerator})" if host.accelerator else ""
    usable = None if host.usable_cpus is None else f"{host.usable_cpus:g}"
    counts = [
        *_some("sockets ", host.sockets),
        *_some("cores ", host.cores),
        *_some("usable CPUs ", usable),
        *_some("memory channels ", host.memory_channels),
    ]
    return ", ".join([f"{host.cpu or 'unknown'}{key}", *counts])


def _some(label: str, value: object) -> list[str]:
    return [] if value is None else [f"{label}{value}"]


def _gib(value: float | None, what: str) -> str:
    return "" if value is None else f"{short(value / GIB)} GiB {what}"


def _share(free: float | None, total: float | None) -> str:
    if free is None or total is None:
        return ""
    return f"{short(free / GIB)} of {short(total / GIB)} GiB available"


def _devices(gpus: tuple[Gpu, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in ("GPU", "name", "catalogue"):
        table.add_column(name)
    for name in ("free\nGiB", "of\nGiB", "limit\nW"):
        table.add_column(name, justify="right")
    table.add_column("state")
    for gpu in gpus:
        table.add_row(*_device(gpu))
        for part in gpu.slices:
            table.add_row("", f"MIG {escape(part.profile)}", "", *_numbers(part.free_bytes, part.memory_bytes), "", "")
    return table


def _device(gpu: Gpu) -> tuple[str, ...]:
    numbers = _numbers(gpu.free_bytes, gpu.memory_bytes)
    limit = "-" if gpu.power_limit_w is None else short(gpu.power_limit_w)
    return (str(gpu.index), escape(gpu.name or "?"), gpu.accelerator or "-", *numbers, limit, escape(_state(gpu)))


def _numbers(*values: float | None) -> tuple[str, ...]:
    return tuple("-" if value is None else short(value / GIB) for value in values)


def _state(gpu: Gpu) -> str:
    users = [f"{process.name or 'process'} {process.pid}{'' if process.ours else ' (not ours)'}"
             for process in gpu.processes]  # fmt: skip
    parts = [
        *(["needs a reset"] if gpu.needs_reset else []),
        *([f"{gpu.uncorrected_errors} uncorrected errors"] if gpu.uncorrected_errors else []),
        *users,
    ]
    return ", ".join(parts) or ("free" if gpu.name else "unreachable")


def _links(gpus: tuple[Gpu, ...]) -> Iterator[str]:
    """A line per kind of link, with the number of pairs that have it."""
    pairs = Counter(_link(link) for gpu in gpus for link in gpu.links if link.to > gpu.index)
    for kind, count in pairs.items():
        yield f"{kind}: {count} pair{'s' if count > 1 else ''}"


def _link(link: Link) -> str:
    way = f"NVLink x{link.nvlinks}" if link.kind == "nvlink" else WAYS[link.kind]
    access = {True: "peer access", False: "no peer access", None: "peer access unknown"}[link.peer_access]
    return f"{way}, {access}"


def _problems(inventory: Inventory) -> Iterator[str]:
    yield from inventory.problems
    said: dict[str, list[str]] = {}
    for gpu in inventory.gpus:
        for problem in gpu.problems:
            said.setdefault(problem, []).append(str(gpu.index))
    for problem, places in said.items():
        yield f"GPU {', '.join(places)}: {problem}"
