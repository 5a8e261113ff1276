"""From a plan to a receipt: which program, run where, and what it came to, written down."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from catalog.errors import BadInput, NotFound
from catalog.inventory import Inventory
from planner import service
from planner.plan import Candidate, Plan
from planner.proving import judge, receipt, recipe
from planner.proving.asked import with_recipe
from planner.proving.judge import Judgement
from planner.proving.judge_speed import Serving
from planner.proving.loading import SERVED, Served
from planner.proving.questions import Questions, extended
from planner.proving.receipt import Receipt, Result
from planner.proving.steps import LeftOut, Program
from planner.running import bench_files, gathered, runner, runstate, task_files, verify_served
from planner.running.commands import Environments
from planner.running.verify_served import Wish
from planner.settings import Settings

OWN = "name the 16-bit model as the plan's model, and the lane that the copy was made in"
RECEIPT, PAGE = "receipt.json", "receipt.md"
RUNS = Path("lanewise-runs")
"""Where runs are kept unless `--run` says otherwise: below the working folder."""


class Choice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the user says beside the plan."""

    lane: str | None = None
    recipe: str | None = None
    """Another method of the lane than the plan's, made here."""
    original: str | None = None
    texts: tuple[Path, ...] = ()
    neutral: tuple[Path, ...] = ()
    calibration: tuple[Path, ...] = ()
    budget_s: float | None = None
    seed: int = 0
    tasks: tuple[Path, ...] = ()
    """Task files of the user's own."""
    questions: Questions = Questions()
    """How they are asked; its items are read from the files."""
    serve: Wish | None = None
    """How it is served and loaded; None: it is not."""


def asked(plan: Plan, choice: Choice, settings: Settings, inventory: Inventory | None) -> recipe.Asked:
    """The core's question; `inventory` = the machine that runs it, None for the planned devices."""
    candidate = recipe.candidate_of(plan, choice.lane)
    source = str(plan.request["model"])
    model = service.with_requested_model(source, settings).model(source)
    if choice.recipe is not None:
        candidate = with_recipe(candidate, choice.recipe, model, plan.request.get("workload") or {})
    questions = _questions(choice, settings)
    if choice.original is not None and candidate.verification is None and model.quantization is not None:
        raise BadInput(f"the plan takes {source} for its own baseline and has no gates: {OWN}", "--original")
    planned, revision = _named(source)
    original, pinned = (planned, revision) if choice.original is None else _named(choice.original)
    return recipe.Asked(
        plan=plan,
        candidate=extended(candidate, questions),
        model=model,
        original=original,
        revision=pinned or (model.revision if choice.original is None and not original.startswith("/") else None),
        planned=planned,
        planned_revision=revision,
        stated=choice.original is not None,
        texts=_files(choice.texts, "--text"),
        neutral=_files(choice.neutral, "--neutral"),
        calibration=_files(choice.calibration, "--calibration"),
        gpus=_gpus(candidate, settings) if inventory is None else len(inventory.gpus),
        seed=choice.seed,
        questions=questions,
    )


def _questions(choice: Choice, settings: Settings) -> Questions:
    """The user's items counted, with how they are asked."""
    known = {each.family for each in service.facts(settings).gates.benchmarks}
    benched, own = bench_files.benched(choice.tasks, choice.questions.benched, known)
    items = task_files.own_items(own, known)
    return task_files.questions(items, structs.replace(choice.questions, benched=benched))


def _named(source: str) -> tuple[str, str | None]:
    """A local path made absolute, or a hub id and its revision."""
    path = Path(source).expanduser()
    if path.exists():
        return str(path.resolve()), None
    if source.startswith((".", "/", "~")) or source.endswith(".gguf"):
        raise BadInput("no such folder or file on this machine", source)
    name, _, revision = source.partition("@")
    return name, revision or None


def _files(paths: tuple[Path, ...], flag: str) -> tuple[str, ...]:
    for path in paths:
        if not path.is_file():
            raise BadInput("no such file", f"{flag} {path}")
    return tuple(str(path.resolve()) for path in paths)


def _gpus(candidate: Candidate, settings: Settings) -> int:
    """GPUs of one replica as planned; none where the plan is for a CPU or a chip that shares its memory."""
    pool = candidate.pools[0]
    device = service.facts(settings).accelerators.get(pool.accelerator)
    if device is not None and device.kind != "gpu":
        return 0
    return pool.tensor_parallel * pool.pipeline_parallel * pool.data_parallel


NOT_SERVED = LeftOut(gate=SERVED, because="memory, latency and rates were not asked for: --serve")


def program(question: recipe.Asked, choice: Choice, about: Served | None = None) -> Program:
    """The steps, those that the budget has room for. Serving comes last: quality decides first."""
    whole = recipe.program(question)
    if about is not None:
        whole = verify_served.with_serving(
            whole, question, about, alone=choice.serve is not None and choice.serve.alone
        )
    else:
        whole = msgspec.structs.replace(whole, left_out=(*whole.left_out, NOT_SERVED))
    return whole if choice.budget_s is None else recipe.within(whole, choice.budget_s)


def prepared(
    plan: Plan, choice: Choice, settings: Settings, inventory: Inventory | None
) -> tuple[recipe.Asked, Served | None, Program]:
    """The question, what is asked of serving, and the program of both."""
    question = asked(plan, choice, settings, inventory)
    served = None if choice.serve is None else verify_served.asked(question, choice.serve, settings, inventory)
    return question, served, program(question, choice, served)


def default_folder(plan: Plan, candidate: Candidate, choice: Choice) -> Path:
    """The same plan, lane and recipe always have the same folder, so that a second run goes on."""
    return RUNS / plan.id / "-".join(filter(None, (candidate.lane.replace(":", "-"), choice.recipe)))


class Run(Struct, frozen=True, kw_only=True):
    """What a receipt needs to know of a run beside its program."""

    question: recipe.Asked
    inventory: Inventory
    reproduce: tuple[str, ...]
    budget_s: float | None = None
    reuse: tuple[Path, ...] = ()
    """Folders below which other runs lie, whose finished steps are taken where everything is the same."""
    served: Served | None = None
    """What was asked of serving."""
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)


def run(steps: Program, about: Run, folder: Path, environments: Environments, watch: runner.Watch) -> Receipt:
    """Run the program and write its receipt, whatever it came to. Raises what makes the whole run impossible."""
    began = about.clock()
    ran = runner.run(steps, folder, environments, watch, until=_until(steps, about, folder), reuse=about.reuse)
    made = receipt_of(steps, about, (ran, folder), began)
    runstate.write(folder / RECEIPT, service.encode(made))
    runstate.write(folder / PAGE, page(made))
    return made


def _until(steps: Program, about: Run, folder: Path) -> runner.Until:
    """Under a budget, a failure that nothing can mend ends the run: gates that are left would change nothing."""
    if about.budget_s is None:
        return runner.Until()

    def decided(results: tuple[Result, ...]) -> str:
        found = judged(steps, about.question.candidate, results, folder)
        return f"decided before it: {found.because}" if found.verdict == "fail" else ""

    return runner.Until(budget_s=about.budget_s, decided=decided)


def receipt_of(steps: Program, about: Run, made: tuple[runner.Ran, Path], began: datetime) -> Receipt:
    """Results in the words of the plan's gates, judged; `made` = what ran, and where."""
    ran, folder = made
    judgement = judged(steps, about.question.candidate, ran.results, folder)
    gates = receipt.gates(steps, about.question.candidate, ran.results, judgement)
    return Receipt(
        plan_id=steps.plan_id,
        lane=steps.lane,
        engine=steps.engine,
        baseline=steps.baseline,
        ended=_ended(ran),
        verdict=judgement.verdict,
        because=judgement.because,
        started_at=began.isoformat(timespec="seconds"),
        ended_at=about.clock().isoformat(timespec="seconds"),
        reproduce=about.reproduce,
        artefacts=receipt.artefacts(ran.results),
        data=receipt.data(ran.results),
        versions=receipt.versions(ran.results, steps),
        hardware=msgspec.to_builtins(about.inventory),
        gates=gates,
        steps=ran.results,
        not_tested=receipt.not_tested(steps, gates),
        notes=steps.notes,
        served=_served(steps, about, ran, folder),
    )


def _served(steps: Program, about: Run, ran: runner.Ran, folder: Path) -> Serving | None:
    if about.served is None:
        return None
    return verify_served.served(steps, about.question, about.served, (ran.results, folder), about.inventory)


def judged(steps: Program, candidate: Candidate, results: tuple[Result, ...], folder: Path) -> Judgement:
    """What the raw numbers of steps that ended well come to. Raises BadInput for a file the scorer did not write."""
    if candidate.verification is None:
        return Judgement(verdict="pass", because="nothing is in fewer bits than the original", gates=())
    return judge.judge(candidate.verification, gathered.runs(steps, candidate.verification, results, folder))


def _ended(ran: runner.Ran) -> receipt.Ended:
    if ran.cancelled:
        return "cancelled"
    if any(each.state in ("failed", "refused") for each in ran.results):
        return "failed"
    return "decided" if ran.decided else "out of budget" if ran.late else "finished"


def page(made: Receipt) -> bytes:
    """The receipt for people, as Markdown."""
    from planner.render import templates

    return templates().get_template("receipt.md.j2").render(receipt=made).encode()


def receipts(folder: Path) -> tuple[tuple[Path, Receipt], ...]:
    """Every receipt below a folder, the newest last. Raises NotFound without the folder, BadInput for a broken one."""
    if not folder.is_dir():
        raise NotFound(f"no folder {folder}: receipts are written by `lanewise verify`")
    found = [(path, read(path)) for path in sorted(folder.rglob(RECEIPT))]
    return tuple(sorted(found, key=lambda each: each[1].ended_at))


def read(path: Path) -> Receipt:
    """One receipt. Raises BadInput for what is none of this version."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Receipt)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise BadInput(f"not a receipt of this version: {fault}", str(path)) from None
