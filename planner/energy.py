"""What a deployment draws: the power of its devices, and how much of the time they work."""

from __future__ import annotations

from planner import cost
from planner.owned import board_watts
from planner.rules.rule import Device
from planner.settle import Settled
from planner.trace import N


def device_watts(device: Device) -> tuple[float, str] | None:
    """(Watts of one device at full load, where that comes from): as the request says, as the driver limits it, as the
    catalogue has it. None where nobody knows, as of a MIG slice.
    """
    if device.slice is not None:
        return None
    if device.ask is not None and device.ask.owned is not None and device.ask.owned.watts is not None:
        return device.ask.owned.watts, "the request"
    limits = [gpu.power_limit_w for gpu in device.gpus if gpu.power_limit_w is not None]
    if limits:
        return float(max(limits)), "the driver's power limit"
    board = board_watts(device.accelerator)
    return None if board is None else (board, device.accelerator.source_of("tdp"))


def busy(batch: N, settled: Settled) -> N:
    """Part of the time in which a replica with `batch` running sequences on average has any: all of it for a batch
    of requests, which lie there at once.
    """
    if settled.request.workload.batch is not None:
        return 1 - 0 * batch
    if settled.load.users is not None:
        return 1 - cost.empty_share_of_users(batch)
    return 1 - cost.empty_share(batch)
