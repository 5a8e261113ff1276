"""This machine as one document: what it has, what is free, what could not be read."""

from __future__ import annotations

from catalog.inventory import Inventory
from probes import gpus, host, installed
from probes.gpus import DEADLINE_S
from probes.known import Accelerators
from probes.world import World


def probe(world: World, accelerators: Accelerators, deadline_s: float = DEADLINE_S) -> Inventory:
    """Look, and change nothing. `deadline_s` is for the NVIDIA driver; what it did not say by then is a problem."""
    devices = gpus.read(world, accelerators, deadline_s)
    around, host_problems = host.read(world, accelerators)
    engines, engine_problems = installed.read(world)
    return Inventory(
        probed_at=world.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        host=around,
        driver=devices.driver,
        cuda=devices.cuda,
        gpus=devices.gpus,
        engines=engines,
        problems=(*devices.problems, *_unprobed(world), *host_problems, *engine_problems),
    )


def _unprobed(world: World) -> tuple[str, ...]:
    """Devices of other makers are not read: it is said where one is."""
    amd = (world.root / "dev/kfd").exists()
    return ("an AMD GPU is here (/dev/kfd), and AMD devices are not probed yet: name it in the request",) if amd else ()
