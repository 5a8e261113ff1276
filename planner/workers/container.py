"""One program of a container image, run as if it were here: same paths, same folder, ended with whoever asked for it.

usage: container.py RUNTIME IMAGE PROGRAM [ARGUMENT...]; RUNTIME is docker or podman, or a path to one

Folders that the words and the variables name are there under their own names, as is the folder it is started in; files
that such a file names are there where they lie in one of those folders. The runtime holds the container's standard
input open as long as it lives, and a shell inside ends the program when it closes. Knows nothing of ours.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

PASSED = (
    "CUDA_VISIBLE_DEVICES", "GGML_", "HF_", "LANEWISE_RUN", "LANEWISE_SERVER", "LLAMA_", "NCCL_", "OMP_",
    "PYTHONNOUSERSITE", "PYTHONUNBUFFERED", "PYTORCH_", "SERVE_", "TMPDIR", "TOKENIZERS_", "TORCH", "TRANSFORMERS_",
    "VLLM_",
)  # fmt: skip
"""How the names of variables begin that the program gets; the image has the others. LANEWISE_RUN and LANEWISE_SERVER
mark processes, so that their caller finds them."""
OF_THE_IMAGE = (
    "/", "/bin", "/dev", "/etc", "/home", "/lib", "/lib64", "/opt", "/proc", "/run", "/sbin", "/sys", "/usr",
    "/usr/bin", "/usr/lib", "/usr/local", "/usr/local/bin", "/usr/local/lib", "/usr/share", "/var",
)  # fmt: skip
"""Folders of this machine that never take the place of the image's; single files in them do."""
BESIDE = "/app"
"""Where llama.cpp's images have their programs (llama.cpp .devops/cpu.Dockerfile), off the search path."""
GUARDED = f"""
PATH="$PATH:{BESIDE}"
exec 3<&0
"$@" 3<&- </dev/null &
child=$!
(cat <&3 >/dev/null; kill -KILL "$child") 2>/dev/null &
exec 3<&-
trap 'kill -TERM "$child" 2>/dev/null' TERM INT
wait "$child"; code=$?
if [ "$code" -gt 128 ]; then  # by a signal: that of the trap, or the child's own
  wait "$child" 2>/dev/null; again=$?
  [ "$again" -eq 127 ] || code=$again
fi
exit "$code"
"""
"""What the container runs first: its end is the end of everything in the container."""


def main(arguments: list[str]) -> None:
    runtime, image, program, *words = arguments
    read, write = os.pipe()
    os.dup2(read, 0)
    os.set_inheritable(write, True)  # as long as the runtime lives, its standard input does not end
    command = started(runtime, image, [program, *words], os.environ)
    try:
        os.execvp(command[0], command)  # noqa: S606 - a list of words, never a shell
    except OSError as fault:
        sys.exit(f"{runtime}: {fault.strerror}")


def started(runtime: str, image: str, words: list[str], env: Mapping[str, str]) -> list[str]:
    """The runtime's own command."""
    passed = sorted(name for name in env if name.startswith(PASSED))
    home = {"HF_HOME": cache} if "HF_HOME" not in env and (cache := _hub_cache(env)) else {}
    here = os.getcwd()
    named = (*words, *(env[name] for name in passed), *home.values())
    return [
        runtime, "run", "--rm", "--interactive", "--network=host", "--ipc=host", *owner(runtime), f"--workdir={here}",
        *(f"--volume={place}:{place}" for place in shared((here, *named))),
        *(f"--env={name}" for name in passed), *(f"--env={name}={value}" for name, value in home.items()),
        "--env=HOME=/tmp", *devices(runtime), "--entrypoint=sh", image, "-c", GUARDED, "sh", *words,
    ]  # fmt: skip


def owner(runtime: str) -> tuple[str, ...]:
    """What it writes belongs to whoever asked for it."""
    if os.getuid() == 0:
        return ()
    return ("--userns=keep-id",) if Path(runtime).name == "podman" else (f"--user={os.getuid()}:{os.getgid()}",)


def devices(runtime: str) -> tuple[str, ...]:
    """Every NVIDIA device; CUDA_VISIBLE_DEVICES chooses among them."""
    if not Path("/dev/nvidiactl").exists():
        return ()
    return ("--device=nvidia.com/gpu=all",) if Path(runtime).name == "podman" else ("--gpus=all",)


def shared(named: Iterable[str]) -> list[str]:
    """Folders, and files in folders of the image's own, that words name; what lies in another one is left out.

    A runtime takes no colon in the name of what is mounted: SystemExit names the folder.
    """
    found: set[str] = set()
    for word in named:
        for part in (word, word.partition("=")[2]):
            if part.startswith("/") and "\0" not in part:
                found |= {place for path in {part, os.path.realpath(part)} if (place := folder(path))}
    for place in sorted(found):
        if ":" in place:
            sys.exit(f"{place}: a container gets no folder or file whose path has a colon; it needs another name")
    return sorted(place for place in found if not any(str(above) in found for above in Path(place).parents))


def folder(path: str) -> str:
    """What to share so that a path is there; "" where nothing is at it, or the image has its own."""
    clean = os.path.normpath(path)
    above = os.path.dirname(clean)
    if os.path.isdir(clean):
        return clean if clean not in OF_THE_IMAGE else ""
    if above not in OF_THE_IMAGE:
        return above if os.path.isdir(above) else ""
    return clean if os.path.isfile(clean) else ""


def _hub_cache(env: Mapping[str, str]) -> str:
    """Where the hub's client keeps what it has got, if it has got anything."""
    place = os.path.join(env.get("HOME", ""), ".cache", "huggingface")
    return place if env.get("HOME", "").startswith("/") and os.path.isdir(place) else ""


if __name__ == "__main__":
    main(sys.argv[1:])
