"""What the shell needs to know about the world around it: read once, from the environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct


class Settings(Struct, frozen=True, kw_only=True):
    """`catalog_dir`: folder of user entries, laid over the shipped catalogue. `database_url`: where plans are kept."""

    catalog_dir: Path
    database_url: str
    local_models: bool = True
    """Whether a request may name a folder or file of this machine; a server that others reach says no."""

    tools_dir: Path | None = None
    """Folder of tool environments, with engines' own planners among them, for `lanewise fit --oracle`."""

    jobs_dir: Path | None = None
    """Folder in which a worker runs jobs: their texts, weights and logs."""

    texts_dir: Path | None = None
    """The one folder of which a job may name files; None where none may."""

    measurements: bool = True
    """Whether own measurements take part; a command or a call says no, never the environment."""

    @property
    def overlay(self) -> Path | None:
        """The user's catalogue folder, None while nothing was added."""
        return self.catalog_dir if self.catalog_dir.is_dir() else None


VARIABLES = {
    "LANEWISE_CATALOG_DIR": "folder of your own catalogue entries (default: `catalog` in the data folder)",
    "LANEWISE_DATABASE_URL": "SQLAlchemy URL of the plan store (default: `lanewise.sqlite3` in the data folder)",
    "LANEWISE_DATA_DIR": "the data folder (default: the platform's own, `~/.local/share/lanewise` on Linux)",
    "LANEWISE_TOOLS_DIR": "tool environments, planners for `fit --oracle` (default: `~/.cache/lanewise/tools`)",
    "LANEWISE_JOBS_DIR": "where jobs of a server are run (default: `jobs` in the data folder)",
    "LANEWISE_TEXTS_DIR": "the folder of which a job may name texts (default: none)",
    "LANEWISE_LOCAL_MODELS": "`no`: requests name models by id, not by a folder or file of this machine",
}


def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings of this process; every variable is optional."""
    data = Path(environ.get("LANEWISE_DATA_DIR") or _platform_data_dir(environ)).expanduser()
    return Settings(
        catalog_dir=Path(environ.get("LANEWISE_CATALOG_DIR") or data / "catalog").expanduser(),
        database_url=environ.get("LANEWISE_DATABASE_URL") or f"sqlite:///{data / 'lanewise.sqlite3'}",
        tools_dir=Path(environ.get("LANEWISE_TOOLS_DIR") or "~/.cache/lanewise/tools").expanduser(),
        jobs_dir=Path(environ.get("LANEWISE_JOBS_DIR") or data / "jobs").expanduser(),
        texts_dir=Path(environ["LANEWISE_TEXTS_DIR"]).expanduser() if environ.get("LANEWISE_TEXTS_DIR") else None,
        local_models=environ.get("LANEWISE_LOCAL_MODELS") != "no",
    )


def to_environment(own: Settings) -> dict[str, str]:
    """The variables with which another process reads the same settings."""
    return {
        "LANEWISE_CATALOG_DIR": str(own.catalog_dir),
        "LANEWISE_DATABASE_URL": own.database_url,
        "LANEWISE_TOOLS_DIR": str(own.tools_dir or ""),
        "LANEWISE_JOBS_DIR": str(own.jobs_dir or ""),
        "LANEWISE_TEXTS_DIR": str(own.texts_dir or ""),
        "LANEWISE_LOCAL_MODELS": "yes" if own.local_models else "no",
    }


def _platform_data_dir(environ: Mapping[str, str]) -> Path:
    home = Path.home()
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "lanewise"
    if sys.platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "lanewise"
    return Path(environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "lanewise"
