"""Every lane of a request, planned by itself and proved one after the other; steps that lanes share are run once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from msgspec import structs

from catalog.errors import BadInput, LanewiseError
from planner import charts, decode, service
from planner.lanes import BY_ID, SEARCHED
from planner.plan import Plan
from planner.proving import compared
from planner.proving.compared import Comparison, Lane
from planner.proving.receipt import Receipt
from planner.running import runstate
from planner.running.verify import RECEIPT
from planner.settings import Settings

TABLE, DRAWING = "lanes.json", "lanes.svg"
Prove = Callable[[Plan, Path], Receipt]
"""Runs the choice of a plan in a folder."""


def lanes_of(named: str) -> tuple[str, ...]:
    """Lanes that were named, comma by comma; all that a plan searches where none was. Raises BadInput by name."""
    found = tuple(filter(None, (each.strip() for each in named.split(","))))
    unknown = [each for each in found if each not in BY_ID]
    if unknown:
        raise BadInput(f"no lane is called {', '.join(unknown)}; `lanewise catalog lanes` lists them", "--all-lanes")
    return found or tuple(lane.id for lane in SEARCHED)


def planned(plan: Plan, lanes: Iterable[str], settings: Settings) -> tuple[dict[str, Plan], dict[str, str]]:
    """The same request with one lane alone, lane by lane; and why others have no plan."""
    plans: dict[str, Plan] = {}
    refused: dict[str, str] = {}
    for lane in lanes:
        asked = decode.decode(msgspec.json.encode(plan.request | {"lanes": [lane]}))
        try:
            found = service.make_plan(asked, settings)
        except LanewiseError as fault:
            refused[lane] = str(fault)
            continue
        if found.choice is not None:
            plans[lane] = found
        else:
            refused[lane] = "; ".join(dict.fromkeys(_reasons(found))) or "nothing fits"
    return plans, refused


def _reasons(plan: Plan) -> Iterable[str]:
    return (f"{each.finding.rule}: {each.finding.because}" for each in plan.refused)


def run(plan: Plan, found: tuple[dict[str, Plan], dict[str, str]], folder: Path, prove: Prove) -> Comparison:
    """Prove lane after lane and write the table after each, so that one which is interrupted shows what it has."""
    plans, refused = found
    done = {lane: compared.planned(each.choice) for lane, each in plans.items() if each.choice is not None}
    made = _written(plan, tuple(done.values()), refused, folder)
    for lane, each in plans.items():
        done[lane] = _proved(each, folder, lane, prove)
        made = _written(plan, tuple(done.values()), refused, folder)
        if done[lane].ended == "cancelled":
            break
    return made


def foreseen(plan: Plan, found: tuple[dict[str, Plan], dict[str, str]]) -> Comparison:
    """The lanes as planned; nothing is run."""
    lanes = tuple(compared.planned(each.choice) for each in found[0].values() if each.choice is not None)
    return Comparison(plan_id=plan.id, model=str(plan.request["model"]), lanes=lanes, refused=found[1])


def drawn(made: Comparison, folder: Path) -> str:
    """Draw the lanes beside the document; where both are, in words."""
    if not charts.available():
        return f"written to {folder / TABLE}; `pip install lanewise[review]` also draws it"
    from planner.running import compared_drawing

    svg = compared_drawing.svg(made)
    if svg is None:
        return f"written to {folder / TABLE}"
    runstate.write(folder / DRAWING, svg.encode())
    return f"written to {folder / TABLE} and {folder / DRAWING}"


def _proved(plan: Plan, folder: Path, lane: str, prove: Prove) -> Lane:
    """A lane's row; where it cannot be run at all, the reason."""
    assert plan.choice is not None
    own = folder / lane.replace(":", "-")
    try:
        receipt = prove(plan, own)
    except LanewiseError as fault:
        return structs.replace(compared.planned(plan.choice), because=str(fault))
    return compared.proved(plan.choice, receipt, _size(own, receipt), f"{own.name}/{RECEIPT}")


def _size(folder: Path, receipt: Receipt) -> float | None:
    """Bytes of the weights' files, without what lies beside them; the original's where the lane is the original."""
    well = {result.id: result for result in receipt.steps if result.well}
    for step in ("candidate", "original"):
        if step in well:
            made = [folder / path for path in well[step].made if "/model" in path]
            files = [file for path in made for file in (path.rglob("*") if path.is_dir() else (path,))]
            weights = [file for file in files if file.suffix in (".safetensors", ".gguf")]
            return float(sum(file.stat().st_size for file in weights)) or None
    return None


def _written(plan: Plan, lanes: tuple[Lane, ...], refused: dict[str, str], folder: Path) -> Comparison:
    kept = compared.front(lanes)
    made = Comparison(
        plan_id=plan.id,
        model=str(plan.request["model"]),
        lanes=tuple(structs.replace(each, undominated=each.lane in kept) for each in lanes),
        refused=refused,
    )
    folder.mkdir(parents=True, exist_ok=True)
    runstate.write(folder / TABLE, service.encode(made))
    return made
