"""`lanewise tools`: environments of the tools that make, serve and score checkpoints."""

from __future__ import annotations

import argparse
import sys
import time

import msgspec

from catalog.errors import NotFound
from planner.cli.common import Commands, write_document

QUIET_S = 15.0
"""Between two lines about a stage, where there is no terminal to write over."""
WIDTH = 118
"""Columns of a line of progress."""


def add_to(commands: Commands) -> None:
    """Declare `tools` and what is done with them."""
    tools = commands.add_parser(
        "tools",
        help="tools that make, serve and score checkpoints: install, try, remove",
        description="Each tool lives in an environment of its own with pinned versions, because the pins of one "
        "contradict another's. LANEWISE_TOOLS_DIR says where. Packages come from pip's configured indexes.",
    )
    actions = tools.add_subparsers(title="actions", metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="every tool and what there is of it")
    install = actions.add_parser("install", help="make an environment; goes on where an earlier attempt ended")
    doctor = actions.add_parser("doctor", help="try what is installed; exit code 1 where something does not work")
    use = actions.add_parser("use", help="use an installation of yours in the place of ours")
    remove = actions.add_parser("remove", help="delete an environment of ours, forget one of yours")
    name = {"metavar": "TOOL", "help": "as `lanewise tools list` names it"}
    install.add_argument("tools", nargs="+", metavar="TOOL", help=name["help"])
    install.add_argument(
        "--backend", metavar="NAME", help="cpu, cuda, metal or vulkan, for llama.cpp (default: what the probe finds)"
    )
    doctor.add_argument("tools", nargs="*", metavar="TOOL", help="these alone (default: all)")
    use.add_argument("tool", metavar="TOOL", help=name["help"])
    use.add_argument(
        "path",
        metavar="PATH",
        help="a folder of programs, an environment, its interpreter, or docker:IMAGE or podman:IMAGE of an image here",
    )
    remove.add_argument("tool", metavar="TOOL", help=name["help"])
    for each in (listed, doctor):
        each.add_argument("--json", action="store_true", help="print one JSON document")
    runs = ((listed, run_list), (install, run_install), (doctor, run_doctor), (use, run_use), (remove, run_remove))
    for action, run in runs:
        action.set_defaults(run=run)


def run_list(arguments: argparse.Namespace) -> int:
    """A row per tool."""
    from planner import settings
    from planner.tools import listing

    found = listing.entries(settings.from_environment())
    if arguments.json:
        write_document(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    else:
        listing.show(found)
    return 0


def run_install(arguments: argparse.Namespace) -> int:
    """One after another; every name is known before the first is begun."""
    from catalog import tools
    from planner import service, settings
    from planner.tools.install import install

    own = settings.from_environment()
    known = tools.load(own.overlay)
    for tool in [tools.named(known, name) for name in arguments.tools]:
        progress = Progress(tool.id, tool.expected_s)
        try:
            made = install(tool, own, lambda: service.probe(own), progress.tell, arguments.backend)
        finally:
            progress.end()
        took = sum(made.seconds.values())
        print(f"{tool.id} is ready ({len(made.versions)} packages, content {made.content[:12]}, made in {took:.0f} s)")
    return 0


def run_doctor(arguments: argparse.Namespace) -> int:
    """Exit code 1 where something that is installed does not work."""
    from catalog import tools
    from planner import settings
    from planner.tools import doctor, listing

    own = settings.from_environment()
    known = tools.load(own.overlay)
    asked = [tools.named(known, name) for name in arguments.tools] or list(known.values())
    found = [doctor.examine(tool, own) for tool in asked]
    if arguments.json:
        write_document(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    else:
        listing.report(found)
    return 1 if any(each.broken for each in found) else 0


def run_use(arguments: argparse.Namespace) -> int:
    """Record an installation of the user's own."""
    from catalog import tools
    from planner import settings
    from planner.tools import use

    own = settings.from_environment()
    used = use.record(tools.named(tools.load(own.overlay), arguments.tool), arguments.path, own)
    print(f"{arguments.tool} is used from {used.image or used.path}")
    return 0


def run_remove(arguments: argparse.Namespace) -> int:
    """Forget what is used from elsewhere, delete what is ours. Raises NotFound where there is neither."""
    from catalog import tools
    from planner import settings
    from planner.tools import use
    from planner.tools.install import remove

    own = settings.from_environment()
    tool = tools.named(tools.load(own.overlay), arguments.tool)
    done = ["forgotten"] if use.forget(tool, own) else []
    waits = "another process is at it: waiting"
    done += ["removed"] if remove(tool, own, lambda: print(waits, file=sys.stderr, flush=True)) else []
    if not done:
        raise NotFound(f"{tool.id} is not installed")
    print(f"{tool.id} is {' and '.join(done)}")
    return 0


class Progress:
    """Stages on stderr: one line that is written over on a terminal, a line now and then elsewhere."""

    def __init__(self, tool: str, expected_s: float) -> None:
        self.tool, self.expected_s = tool, expected_s
        self.began = self.said = time.monotonic()
        self.stage = ""

    def tell(self, stage: str, seconds: float, line: str) -> None:
        """`seconds` since the stage began, and what its program printed last."""
        now = time.monotonic()
        took = f"{seconds:.0f} s; {now - self.began:.0f} s of about {self.expected_s:.0f} s in all"
        said = f"{self.tool}: {stage} {took}  {line}".rstrip()[:WIDTH]
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{said}")
            sys.stderr.flush()
        elif stage != self.stage or now - self.said > QUIET_S:
            print(said, file=sys.stderr, flush=True)
            self.said = now
        self.stage = stage

    def end(self) -> None:
        """The terminal's line is free again."""
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
