"""`lanewise serve`: the REST service."""

from __future__ import annotations

import argparse

import msgspec

from planner.cli.common import Commands

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def add_to(commands: Commands) -> None:
    """Declare `serve`."""
    serve = commands.add_parser(
        "serve",
        help="answer over REST",
        description="Serve POST /plan and the stored plans. A server that listens beyond this machine plans models "
        "by id only, never from a folder of its own.",
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=8321, help="port to listen on (default: %(default)s)")
    serve.add_argument("--db", metavar="URL", help="plan store, for example sqlite:///plans.sqlite3")
    serve.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted."""
    import uvicorn

    from planner import settings
    from planner.api import create_app

    own = settings.from_environment()
    own = msgspec.structs.replace(
        own, local_models=arguments.host in LOOPBACK, database_url=arguments.db or own.database_url
    )
    uvicorn.run(create_app(own), host=arguments.host, port=arguments.port)
    return 0
