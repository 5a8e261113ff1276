"""What to change: single changes of a setup with what each gives, the cheapest first.

Flags come before what is served, and that before quality and money. Of each kind the smallest that helps is offered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from msgspec import structs

from planner import pairing
from planner.headroom import seating, setups
from planner.headroom.picture import Ask, Change
from planner.headroom.setups import Setup
from planner.headroom.starting import verdict
from planner.plan import Estimate
from planner.rows import books_of

SHARES = (0.94, 0.96, 0.98)
SLOTS = (256, 64, 16, 1)
BUDGETS = (8192, 2048)
COUNTS = (2, 4, 8, 16, 32, 64)
SHORTEST = 1024
"""Tokens of context below which nothing is offered."""
Step = tuple[str, str, Setup]
"""The change in words, as flags, and what it makes of the setup."""


def changes(setup: Setup, others: Sequence[Setup], ask: Ask) -> tuple[Change, ...]:
    """What makes the setup start; where it starts, what makes room for more. `others` are setups of all lanes."""
    now = _gives(setup)
    made = []
    for kind in KINDS:
        for change, flags, changed in kind(setup, others, ask):
            then = _gives(changed)
            if then is not None and (now is None or _more(then, now)):
                made.append(_change(change, flags, then))
                break
    return tuple(made)


Given = tuple[Estimate, int, int]
"""(margin, longest context, sequences at the asked context) of a setup that starts."""


def _gives(setup: Setup) -> Given | None:
    starts, _, _, seen = verdict(setup)
    if not starts or seen is None:
        return None
    return seen.margin, seen.longest_context, seen.seats_at(setup.context) or 0


def _more(then: Given, now: Given) -> bool:
    return then[1] > now[1] or then[2] > now[2]


def _change(change: str, flags: str, then: Given) -> Change:
    return Change(change=change, flags=flags, margin=then[0], longest_context=then[1], sequences=then[2])


def _another_share(setup: Setup, _others: Sequence[Setup], _ask: Ask) -> Iterator[Step]:
    """vLLM alone sets a share: less where the asked one is not free, else more as far as memory is free."""
    if books_of(setup.pairing) != "vllm" or not setup.largest_share:
        return
    most = setup.largest_share
    offered = (most,) if setup.share > most else (*(share for share in SHARES if setup.share < share < most), most)
    for share in offered:
        words, flags = f"let vLLM claim {share:g} of the memory", f"--utilization {share:g}"
        yield words, flags, replace(setup, utilization=share)


def _fewer_slots(setup: Setup, _others: Sequence[Setup], _ask: Ask) -> Iterator[Step]:
    for slots in SLOTS:
        if slots < setup.slots:
            noun = "sequence" if slots == 1 else "sequences"
            yield f"{slots} {noun} at once", f"--sequences {slots}", replace(setup, slots=slots)


def _smaller_steps(setup: Setup, _others: Sequence[Setup], _ask: Ask) -> Iterator[Step]:
    for chunk in BUDGETS:
        if chunk < setup.chunk and books_of(setup.pairing) == "vllm":
            yield f"{chunk} tokens a step", f"--set batched_tokens={chunk}", replace(setup, chunk=chunk)


def _smaller_cache(setup: Setup, _others: Sequence[Setup], _ask: Ask) -> Iterator[Step]:
    for dtype in pairing.CACHES[_engine(setup)]:
        changed = setup.holding(dtype)
        if changed.cached.format is not None and changed.option.cell_bits < setup.option.cell_bits:
            yield f"a KV cache in {dtype}", f"--kv-cache {dtype}", changed


def _shorter_context(setup: Setup, _others: Sequence[Setup], _ask: Ask) -> Iterator[Step]:
    """The longest that the same flags allow."""
    seen = verdict(setup)[3]
    fits = seen.longest_context if seen is not None else 0
    if SHORTEST <= fits < setup.context:
        yield f"at most {fits:,} tokens of context", f"--context {fits}", setup.at(fits)


def _smaller_lane(setup: Setup, others: Sequence[Setup], _ask: Ask) -> Iterator[Step]:
    """The same engine's first, and of them the largest, which loses least."""
    device, own = setup.pairing.device, _weight_bytes(setup)
    beside = [each for each in others if each.pairing.device == device]
    sized = [(size, each) for each in beside if (size := _weight_bytes(each)) is not None and size < (own or 0.0)]
    for _, each in sorted(sized, key=lambda pair: (_engine(pair[1]) != _engine(setup), -pair[0])):
        lane, engine = each.pairing.lane.id, _engine(each)
        other = "" if engine == _engine(setup) else f" with {engine}"
        yield f"the lane {lane}{other}", f"--lane {lane}", each


def _engine(setup: Setup) -> str:
    return setup.pairing.engine.id


def _weight_bytes(setup: Setup) -> float | None:
    seen = verdict(setup)[3]
    return seen.parts[0].bytes.value if seen is not None else None


def _more_devices(setup: Setup, _others: Sequence[Setup], ask: Ask) -> Iterator[Step]:
    """The next counts of the same accelerator, of a question that names accelerators."""
    paired = setup.pairing
    if paired.device.machine is not None:
        return
    free = structs.replace(ask, tensor_parallel=None, pipeline_parallel=None, data_parallel=None)
    for count in COUNTS:
        if count > setup.devices:
            device = structs.replace(paired.device, most=count)
            grown = setup.on(structs.replace(paired, device=device))
            tensor, pipeline, expert, data = setups.layout(grown.pairing, free)
            name = device.accelerator.id
            changed = replace(grown, tensor=tensor, pipeline=pipeline, expert=expert, data=data, chosen=False)
            yield f"{count} x {name}", f"--on {name}:{count}", changed


def _experts_on_the_host(setup: Setup, _others: Sequence[Setup], _ask: Ask) -> Iterator[Step]:
    """llama.cpp: the experts of as few layers as it takes."""
    split = setup.usual_split
    if split is None or setup.pairing.model.moe is None or _weight_bytes(setup) is None:
        return
    layers = setup.pairing.model.layers
    kept = [replace(setup, split=replace(split, cpu_experts=n)) for n in range(layers, split.cpu_experts, -1)]
    found = seating.most(lambda n: _starts(kept[n - 1]), len(kept)) if kept else 0
    if found:
        n = layers - found + 1
        which = "one layer" if n == 1 else f"{n} layers"
        yield f"the experts of {which} on the host", f"--cpu-experts {n}", kept[found - 1]


def _fewer_gpu_layers(setup: Setup, _others: Sequence[Setup], _ask: Ask) -> Iterator[Step]:
    """llama.cpp: as many layers on devices as fit, the output not alone."""
    split = setup.usual_split
    if split is None or _weight_bytes(setup) is None:
        return
    asked = setup.pairing.model.layers + 1 if split.layers is None else split.layers

    def on_devices(layers: int) -> Setup:
        return replace(setup, split=replace(split, layers=layers))

    found = seating.most(lambda n: _starts(on_devices(n)), asked - 1) if asked > 1 else 0
    if found > 1:
        whole = setup.pairing.model.layers + 1
        yield f"{found} of {whole} layers on devices", f"--gpu-layers {found}", on_devices(found)


def _starts(setup: Setup) -> bool:
    return seating.Rooms(setup).starts(setup.context, setup.slots)


Kind = Callable[[Setup, Sequence[Setup], Ask], Iterator[Step]]
KINDS: tuple[Kind, ...] = (
    _another_share,
    _smaller_steps,
    _fewer_slots,
    _smaller_cache,
    _shorter_context,
    _experts_on_the_host,
    _fewer_gpu_layers,
    _smaller_lane,
    _more_devices,
)
"""Adding a change: a function that yields steps, the smallest first, and its name here."""
