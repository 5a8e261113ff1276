"""Gets a model's files into a folder: links to what is here or in the hub's cache, and a manifest of their hashes.

usage: obtain.py folder --path FOLDER_OR_GGUF --out DIR
       obtain.py hub --repo ID [--revision REVISION] [--file PATTERN] --out DIR
Writes DIR/model (a folder of links) or DIR/model.gguf (one link), and DIR/manifest.json last. Weights are safetensors
or GGUF: pickles and code are never taken.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import sys
from pathlib import Path

WANTED = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "*.tiktoken")
"""Of a folder or a repository: weights, configuration, tokenizer."""
BLOCK = 2**24


class Fault(Exception):
    """What is wrong, in one sentence."""


def main() -> None:
    top = argparse.ArgumentParser()
    verbs = top.add_subparsers(dest="verb", required=True)
    folder, hub = verbs.add_parser("folder"), verbs.add_parser("hub")
    folder.add_argument("--path", type=Path, required=True)
    hub.add_argument("--repo", required=True)
    hub.add_argument("--file")
    for each in (folder, hub):
        each.add_argument("--revision")
        each.add_argument("--out", type=Path, required=True)
    given = top.parse_args()
    try:
        obtain(given)
    except (Fault, OSError) as fault:
        sys.exit(f"obtain.py: {fault}")


def obtain(given: argparse.Namespace) -> None:
    source, revision = (given.path, given.revision) if given.verb == "folder" else fetched(given)
    given.out.mkdir(parents=True, exist_ok=True)
    files = linked(source, given.out, getattr(given, "file", None))
    hashes = {name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for name, path in sorted(files.items())}
    whole = hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
    said = {"source": str(getattr(given, "repo", source)), "revision": revision, "sha256": whole, "files": hashes}
    (given.out / "manifest.json").write_text(json.dumps(said, indent=2) + "\n")
    print(json.dumps({"source": said["source"], "revision": revision, "sha256": whole, "files": len(hashes)}))


def fetched(given: argparse.Namespace) -> tuple[Path, str]:
    """The snapshot in the hub's cache, where an interrupted download goes on, and the commit it is."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = [given.file] if given.file else list(WANTED)
    try:
        path = Path(snapshot_download(given.repo, revision=given.revision, allow_patterns=wanted))
    except (HfHubHTTPError, LocalEntryNotFoundError, ValueError) as fault:
        raise Fault(f"{given.repo} cannot be fetched: {' '.join(str(fault).split())}") from None
    return path, path.name


def linked(source: Path, out: Path, pattern: str | None) -> dict[str, Path]:
    """Links below `out`; the files by name."""
    if source.is_file() or pattern is not None:
        file = source if source.is_file() else only(source, pattern or "")
        (out / "model.gguf").symlink_to(file.resolve())
        return {file.name: file}
    files = {path.name: path for kind in WANTED for path in source.glob(kind) if path.is_file()}
    if not any(name.endswith(".safetensors") for name in files):
        raise Fault(f"{source} holds no safetensors")
    if "config.json" not in files:
        raise Fault(f"{source} holds no config.json")
    (out / "model").mkdir()
    for name, path in files.items():
        (out / "model" / name).symlink_to(path.resolve())
    return files


def only(folder: Path, pattern: str) -> Path:
    """The one file of this type."""
    found = sorted(path for path in folder.rglob("*.gguf") if fnmatch.fnmatch(path.name.lower(), pattern.lower()))
    if not found:
        raise Fault(f"no file like {pattern} in {folder}")
    exact = [path for path in found if path.stem.lower().endswith(pattern.lower().strip("*").removesuffix("*.gguf"))]
    if len(exact) == 1:
        return exact[0]
    if len(found) > 1:
        raise Fault(f"{len(found)} files like {pattern}, one is wanted: {', '.join(path.name for path in found[:4])}")
    return found[0]


def sha256(path: Path) -> str:
    """Of a file of any size."""
    found = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            found.update(block)
    return found.hexdigest()


if __name__ == "__main__":
    main()
