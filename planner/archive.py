"""Launch files as one archive whose bytes depend on their contents alone."""

from __future__ import annotations

import gzip
import io
import tarfile

from planner.plan import LaunchFile


def pack(files: tuple[tuple[LaunchFile, bytes], ...]) -> bytes:
    """A .tar.gz with `target/name` paths, fixed dates and owners, executable bits kept."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for launch, content in files:
            entry = tarfile.TarInfo(f"{launch.target}/{launch.name}")
            entry.size, entry.mode = len(content), 0o755 if launch.executable else 0o644
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()
