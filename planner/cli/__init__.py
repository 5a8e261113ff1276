"""The command line: `lanewise COMMAND …`. Exit codes: 0 done, 1 failed, 2 bad input, 3 infeasible.

Answers go to stdout, messages to stderr. A module per group of commands; each imports what it runs when it runs, so
that `lanewise plan` starts without the web framework, the database, the hub client and the templates.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from catalog.errors import BadInput, LanewiseError
from planner.cli import accuracy, catalogue, evidence, fit, observe, plan, probe, review, rule, serve, tools, verify
from planner.version import VERSION

DONE, FAILED, BAD_INPUT, INFEASIBLE = 0, 1, 2, 3
GROUPS = (plan, fit, probe, review, verify, observe, catalogue, evidence, rule, accuracy, tools, serve)
"""Every module that adds commands; the reference page is generated from the parser they build."""


class Parser(argparse.ArgumentParser):
    """argparse, with one line for an error instead of a page of usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: {message} (see `{self.prog} --help`)\n")


def parser() -> Parser:
    """All commands; each sets `run`, a function from the parsed arguments to an exit code."""
    top = Parser(prog="lanewise", description="Pick, prove and ship the right quantization lane for a language model.")
    top.add_argument("--version", action="version", version=f"lanewise {VERSION}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    for group in GROUPS:
        group.add_to(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; an error that Lanewise raises on purpose is one line."""
    arguments = parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except BadInput as error:
        return _fail(error, BAD_INPUT)
    except (LanewiseError, OSError) as error:
        return _fail(error, FAILED)
    except KeyboardInterrupt:
        return 130
    return code


def _fail(error: Exception, code: int) -> int:
    if isinstance(error, BrokenPipeError):  # `lanewise … | head`: nobody is left to read
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    print(f"lanewise: {' '.join(str(error).split())}", file=sys.stderr)
    return code
