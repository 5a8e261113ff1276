"""What a container or service may use: the limits of control groups, versions 1 and 2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from msgspec import Struct

from probes.world import World

NO_LIMIT = 2.0**62
"""Version 1 writes "no limit" as the largest multiple of a page: anything near it is no limit."""
ROOT = "/sys/fs/cgroup"


class Limits(Struct, frozen=True, kw_only=True):
    """None where there is no limit. `memory_left` takes page cache that the kernel would give up as free."""

    cpus: float | None = None
    memory: float | None = None
    memory_left: float | None = None


def read(world: World) -> Limits:
    """The tightest limit on the way from this process's group up to the root that it can see."""
    cpus = [found for folder in folders(world, "cpu") if (found := _cpus(world, folder)) is not None]
    memory = [pair for folder in folders(world, "memory") if (pair := _memory(world, folder)) is not None]
    return Limits(
        cpus=min(cpus, default=None),
        memory=min((limit for limit, _ in memory), default=None),
        memory_left=min((max(limit - used, 0.0) for limit, used in memory), default=None),
    )


def folders(world: World, controller: str) -> Iterator[str]:
    """Folders of this process's group and of those above it. In a container, a path of version 1 is often the host's
    and not there: then the root of the mount is the group."""
    for line in (world.read("/proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mounts = (f"{ROOT}/{controllers}", f"{ROOT}/{controller}") if controllers else (ROOT, f"{ROOT}/unified")
        for mount in dict.fromkeys(mounts):
            group = PurePosixPath(path)
            yield from (f"{mount}/{str(part).strip('/')}".rstrip("/") for part in (group, *group.parents))


def _cpus(world: World, folder: str) -> float | None:
    """CPUs by quota and period."""
    quota, _, period = (world.read(f"{folder}/cpu.max") or "").partition(" ")
    if not quota:
        quota, period = world.read(f"{folder}/cpu.cfs_quota_us") or "", world.read(f"{folder}/cpu.cfs_period_us") or ""
    if not (quota.isdecimal() and period.isdecimal() and int(period)):
        return None
    return int(quota) / int(period)


def _memory(world: World, folder: str) -> tuple[float, float] | None:
    """(limit, what is used and cannot be given up) in bytes."""
    for limit_file, used_file in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        limit, used = world.read(f"{folder}/{limit_file}") or "", world.read(f"{folder}/{used_file}") or "0"
        if limit.isdecimal() and float(limit) < NO_LIMIT:
            return float(limit), max(float(used) - _page_cache(world, folder), 0.0)
    return None


def _page_cache(world: World, folder: str) -> float:
    """Bytes of files that were not used lately."""
    rows = (line.split() for line in (world.read(f"{folder}/memory.stat") or "").splitlines())
    found = {row[0]: float(row[1]) for row in rows if len(row) == 2}
    return found.get("total_inactive_file", found.get("inactive_file", 0.0))
