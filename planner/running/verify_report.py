"""A program, its progress and its receipt for people, in the terminal. Layout only."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from rich import box
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from catalog.units import GIB
from planner.plan import Estimate
from planner.proving.judge_speed import Serving
from planner.proving.receipt import Receipt, Result
from planner.proving.steps import Program, Step
from planner.report import console

COLOURS = {"done": "green", "kept": "cyan", "not run": "dim", "cancelled": "yellow"}
LOG_LINE = 100
"""Characters of a log's last line that are shown while a step runs."""


def show(program: Program) -> None:
    """Steps with what they cost, the commands, what is not measured, what is missing."""
    out = console()
    out.print(
        f"Prove [bold]{escape(program.lane)}[/] on {escape(program.engine)} against {escape(program.baseline)}: "
        f"{len(program.steps)} steps, about {seconds(program.expected_s)}."
    )
    out.print(_steps(program))
    for step in program.steps:
        out.print(f"[bold]{step.id}[/]: {escape(step.proves)}", soft_wrap=True)
        out.print(f"  {escape(shlex.join(step.command))}", soft_wrap=True)
    grid = Table.grid(padding=(0, 2, 0, 0))
    for because, gates in _grouped(program):
        grid.add_row("[yellow]not tested[/]", escape(f"{', '.join(gates)}: {because}"))
    for note in program.notes:
        grid.add_row("note", escape(note))
    for missing in program.missing:
        grid.add_row("[red]missing[/]", escape(missing))
    if grid.row_count:
        out.print()
        out.print(grid)


def _steps(program: Program) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("step", "does"):
        table.add_column(name, overflow="fold")
    for name in ("RAM GiB", "disk GiB", "GPUs", "time"):
        table.add_column(name, justify="right")
    for step in program.steps:
        sizes = (f"{size / GIB:.3g}" for size in (step.ram_bytes, step.disk_bytes))
        table.add_row(step.id, escape(step.does), *sizes, str(step.gpus), seconds(step.expected_s))
    return table


def _grouped(program: Program) -> Iterable[tuple[str, list[str]]]:
    """Gates by the reason why they are left out."""
    found: dict[str, list[str]] = {}
    for each in program.left_out:
        found.setdefault(each.because, []).append(each.gate)
    return found.items()


def seconds(estimate: Estimate) -> str:
    """Value and interval in a unit that people read."""
    unit, scale = next((unit, scale) for unit, scale, up_to in UNITS if estimate.value < up_to)
    value, low, high = (f"{each / scale:.2g}" for each in (estimate.value, estimate.low, estimate.high))
    value, low, high = (f"{float(each):g}" for each in (value, low, high))
    return f"{value} {unit} ({low} to {high})"


UNITS = (("s", 1.0, 120.0), ("min", 60.0, 7200.0), ("h", 3600.0, float("inf")))
"""Unit, its seconds, and up to which value it is used."""


class Screen:
    """Progress on stderr: a live line in a terminal, a line per step elsewhere."""

    def __init__(self) -> None:
        self._out = Console(file=sys.stderr, highlight=False)
        self._live: Live | None = None
        self._head = ""

    def note(self, text: str) -> None:
        """Something that was found at the start."""
        self._out.print(escape(text))

    def started(self, step: Step, place: int, steps: int) -> None:
        """A step begins."""
        self._head = f"[{place}/{steps}] {step.id}: {step.does}"
        if self._out.is_terminal:
            self._live = Live(console=self._out, transient=True, auto_refresh=False)
            self._live.start()
        else:
            self._out.print(escape(f"{self._head}, about {seconds(step.expected_s)}"), soft_wrap=True)

    def running(self, step: Step, seconds_so_far: float, tail: str) -> None:
        """It runs: time so far, time expected, the last line of its log."""
        if self._live is not None:
            last = tail.splitlines()[-1][-LOG_LINE:] if tail else ""
            line = f"{self._head}  {seconds_so_far:.0f} s of about {seconds(step.expected_s)}\n  {last}"
            self._live.update(escape(line), refresh=True)

    def ended(self, step: Step, result: Result) -> None:
        """It ended, or was not started, and why."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        colour = COLOURS.get(result.state, "red")
        text = f"{result.seconds:.1f} s" if result.state in ("done", "kept") else result.because
        self._out.print(f"[{colour}]{result.state}[/] {step.id}  {escape(text)}", soft_wrap=True)


def show_receipt(made: Receipt, folder: Path) -> None:
    """How it ended, gate by gate, and where the receipt is."""
    out = console()
    measured = sum(gate.measured for gate in made.gates)
    out.print(
        f"[bold]{made.ended}[/]: {measured} of {len(made.gates)} gates measured; verdict [bold]{made.verdict}[/]: "
        f"{escape(made.because)}."
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("gate", "measured", "verdict", "why"):
        table.add_column(name, overflow="fold")
    for gate in made.gates:
        table.add_row(escape(gate.gate), "yes" if gate.measured else "no", escape(gate.verdict), escape(gate.because))
    out.print(table)
    if made.served is not None:
        show_served(made.served)
    out.print(escape(f"receipt: {folder / 'receipt.json'} and {folder / 'receipt.md'}"), soft_wrap=True)


def show_served(found: Serving) -> None:
    """Claim by claim."""
    from planner.render import measured, predicted

    out = console()
    why = f": {escape(found.because)}" if found.because else ""
    out.print(f"served: [bold]{found.outcome}[/]{why}", soft_wrap=True)
    if found.elsewhere:
        out.print(f"nothing of this decides over the plan: {escape(found.elsewhere)}", soft_wrap=True)
    if not found.claims:
        return
    errors = ", ".join(f"{count} x {error}" for error, count in found.errors.items()) or "no errors"
    out.print(f"{found.repeats} repeats, {found.requests} requests, {escape(errors)}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("claim", "predicted", "measured", "ratio", "verdict"):
        table.add_column(name, overflow="fold")
    for claim in found.claims:
        mark = ", off most" if claim.name in found.off.values() else ""
        verdict = f"{claim.verdict}{mark}" + (f": {claim.because}" if claim.because else "")
        ratio = "–" if claim.ratio is None else f"{claim.ratio:.3g}"
        table.add_row(claim.name, predicted(claim), measured(claim), ratio, escape(verdict))
    out.print(table)
    for kept in found.objectives:
        value = "–" if kept.measured_s is None else f"{kept.measured_s:.3g} s"
        out.print(f"objective {kept.name} {kept.limit_s:g} s: {value}, {kept.verdict}", soft_wrap=True)
    for note in found.notes:
        out.print(f"note {escape(note)}", soft_wrap=True)


def show_receipts(found: Iterable[tuple[Path, Receipt]]) -> None:
    """One line per receipt."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("ended at", "plan", "lane", "ended", "measured", "verdict", "receipt"):
        table.add_column(name, overflow="fold")
    for path, made in found:
        measured = f"{sum(gate.measured for gate in made.gates)} of {len(made.gates)}"
        row = (made.ended_at, made.plan_id, made.lane, made.ended, measured, made.verdict, str(path))
        table.add_row(*map(escape, row))
    console().print(table)
