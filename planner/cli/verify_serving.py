"""Flags of `lanewise verify` that serve the candidate and load it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from catalog.errors import BadInput
from planner.cli.common import number

if TYPE_CHECKING:
    from planner.running.verify_served import Wish

SEARCH_MINUTES = 2.0
OWN_CLIENT, LOAD_TOOLS = "own", ("own", "guidellm", "vllm-bench")
"""`planner.proving.loadtools` has the same: it would cost the start of every command."""
FEWEST, MOST = 5, 100_000
"""Requests of a repeat: fewer have no spread, more are no repeat."""


def add_serving(group: argparse._ArgumentGroup) -> None:
    """Declare them."""
    group.add_argument(
        "--serve",
        action="store_true",
        help="start the launch file, send the planned load, compare memory, latency and rates with the plan",
    )
    group.add_argument("--serve-only", action="store_true", help="the same without measuring quality")
    group.add_argument(
        "--search",
        type=number,
        metavar="MINUTES",
        help="for the highest rate within the objectives (default: 2; 0: none)",
    )
    group.add_argument(
        "--no-store", action="store_true", help="keep none of what was served and measured for later plans"
    )
    group.add_argument(
        "--load-tool",
        choices=LOAD_TOOLS,
        help="who sends the repeats: our own client (default), guidellm, or `vllm bench serve`; the highest rate is "
        "always searched by our own",
    )
    group.add_argument(
        "--requests",
        type=int,
        metavar="N",
        help="of each of the three repeats (default: about a minute of the load, from 30 to 400)",
    )
    group.add_argument("--port", type=int, metavar="N", help="that the server listens on here (default: a free one)")


def wish(arguments: argparse.Namespace) -> Wish | None:
    """What is asked of serving; None without --serve. Raises BadInput."""
    from planner.running.verify_served import Wish

    if not (arguments.serve or arguments.serve_only):
        for name in ("search", "requests", "port", "load_tool"):
            if getattr(arguments, name) is not None:
                raise BadInput("it belongs to --serve or --serve-only", f"--{name.replace('_', '-')}")
        return None
    minutes = SEARCH_MINUTES if arguments.search is None else arguments.search
    if not 0 <= minutes < float("inf"):
        raise BadInput(f"expected minutes, 0 or more, got {minutes}", "--search")
    if arguments.port is not None and not 1024 <= arguments.port <= 65535:
        raise BadInput(f"expected a port from 1024 to 65535, got {arguments.port}", "--port")
    if arguments.requests is not None and not FEWEST <= arguments.requests <= MOST:
        raise BadInput(f"expected {FEWEST} to {MOST} requests, got {arguments.requests}", "--requests")
    return Wish(
        search_s=60.0 * minutes, port=arguments.port or 0, seed=arguments.seed, alone=arguments.serve_only,
        requests=arguments.requests or 0, load_tool=arguments.load_tool or OWN_CLIENT,
    )  # fmt: skip
