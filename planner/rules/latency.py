"""L rules: whether the load is carried within the latency objectives."""

from __future__ import annotations

from planner.rules.rule import Measured, Pairing, Says, rule


@rule("L101", "refuse")
def misses_the_objective(case: Measured) -> Says | None:
    """Refuses a layout that misses a latency objective however few requests it gets.

    Why: more replicas do not make one token faster; more tensor parallel, fewer bits or another device do.
    Source: the step-time model (docs/accuracy/speed.md says how far to trust it).
    """
    if case.served:
        return None
    return Says(
        because=f"{case.broken} of {case.value_s:.3g} s with hardly any load, {case.limit_s:.3g} s allowed",
        facts={"objective": case.broken, "value_s": round(case.value_s, 6), "limit_s": case.limit_s},
    )


@rule("L102", "refuse")
def too_few_devices(case: Measured) -> Says | None:
    """Refuses a layout that needs more devices for the load than there are.

    Why: beyond its sustainable rate a server only queues.
    Source: the step-time model.
    """
    most = case.placed.pairing.device.most
    if not case.served or case.devices <= most:
        return None
    load = case.placed.pairing.settled.load
    asked = f"{load.rate:g} requests/s" if load.rate is not None else f"{load.users} users"
    return Says(
        because=f"{asked} need {case.devices:.0f} devices ({case.rate:.3g} requests/s per replica), {most} are available",
        facts={"devices": case.devices, "available": most, "rate_per_replica": round(case.rate, 6)},
    )


@rule("L301", "warn")
def llama_cpp_under_load(case: Pairing) -> Says | None:
    """Warns when llama.cpp serves many users from a server GPU that vLLM supports.

    Why: its kernels are made for one stream; on an H100 vLLM serves four to six times the throughput (the article's
    figure; no measured pair is in the catalogue).
    Source: article on production quantization, lane 4; unsupported by rows.
    """
    device, load = case.device.accelerator, case.settled.load
    many = (load.users or 0) > 4 or (load.rate or 0) > 0.5
    if case.engine.id != "llama.cpp" or device.kind != "gpu" or not many or "HBM" not in device.memory_type:
        return None
    return Says(
        because="llama.cpp is made for few streams: a server GPU earns more with vLLM",
        facts={"memory_type": device.memory_type},
    )
