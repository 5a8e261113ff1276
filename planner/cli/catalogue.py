"""`lanewise catalog`: look things up, see where every value comes from, add an entry of one's own."""

from __future__ import annotations

import argparse
import sys

from planner.cli.common import Commands, write_document

KINDS = {
    "accelerators": "devices with memory, bandwidth, dense rates and cheapest offer",
    "models": "model architectures",
    "artifacts": "published quantized checkpoints",
    "prices": "cloud offers",
    "kernels": "kernels and cache formats of every engine version on every device, by lane, or why there are none",
    "images": "published images of engine versions, with the devices, CUDA and drivers that they need",
    "doubts": "values that no source confirms yet",
}


def add_to(commands: Commands) -> None:
    """Declare `catalog` and its sub-commands."""
    catalog = commands.add_parser(
        "catalog", help="what Lanewise knows, with sources", description="Look into the catalogue, or add to it."
    )
    catalog.set_defaults(run=run_counts)
    actions = catalog.add_subparsers(title="actions", metavar="ACTION")
    for kind, what in KINDS.items():
        listing = actions.add_parser(kind, help=what, description=f"List {what}.")
        listing.add_argument("query", nargs="*", metavar="QUERY", help="words that must all occur")
        listing.add_argument("--json", action="store_true", help="print one JSON document")
        listing.set_defaults(run=run_list, kind=kind)
    show = actions.add_parser("show", help="one entry, every field with its source", description="Show one entry.")
    show.add_argument("id", metavar="ID", help="accelerator key, model id, artefact repository or offer name")
    show.add_argument("--json", action="store_true", help="print one JSON document")
    show.set_defaults(run=run_show)
    check = actions.add_parser(
        "check",
        help="open published checkpoints and keep what was seen",
        description="Open the repositories on the hub, compare lane and shapes with the catalogue, and keep commit, "
        "licence, size and date in LANEWISE_CATALOG_DIR: plans then no longer warn that nobody looked (rule H130).",
    )
    check.add_argument(
        "repo", nargs="+", metavar="REPO", help="repositories, as `lanewise catalog artifacts` lists them"
    )
    check.set_defaults(run=run_check)
    add = actions.add_parser(
        "add",
        help="add a model of your own",
        description="Read a model's headers and keep it in LANEWISE_CATALOG_DIR; a fine-tune inherits its base's "
        "evidence and artefacts by tensor shapes, marked `inherited`.",
    )
    add.add_argument("source", metavar="REPO|DIR|FILE", help="hub id, local folder, or .gguf file")
    add.set_defaults(run=run_add)


def run_counts(_arguments: argparse.Namespace) -> int:
    """Print how much the catalogue knows."""
    from planner import browse, listing, service, settings

    listing.show_counts(browse.counts(service.catalogue(settings.from_environment())))
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    """Print the entries of one kind."""
    from planner import browse, service, settings

    found = browse.lines(service.catalogue(settings.from_environment()), arguments.kind, " ".join(arguments.query))
    if arguments.json:
        write_document(service.encode(found))
        return 0
    from planner import listing

    listing.show_lines(arguments.kind, found)
    return 0


def run_show(arguments: argparse.Namespace) -> int:
    """Print one entry."""
    from planner import browse, service, settings

    entry = browse.show(service.catalogue(settings.from_environment()), arguments.id)
    if arguments.json:
        write_document(service.encode(entry))
        return 0
    from planner import listing

    listing.show_entry(entry)
    return 0


def run_check(arguments: argparse.Namespace) -> int:
    """Open each; 1 when one is not what the catalogue says or cannot be opened."""
    from datetime import UTC, datetime

    from catalog import overlay
    from catalog.errors import BadInput, NotFound
    from planner import service, settings
    from probes import published

    own = settings.from_environment()
    catalog = service.catalogue(own)
    known = {artifact.repo: artifact for artifact in catalog.artifacts}
    faults = 0
    for repo in arguments.repo:
        if repo not in known:
            raise NotFound(f"the catalogue has no checkpoint {repo!r}; `lanewise catalog artifacts` lists them")
        try:
            seen = published.check(known[repo], catalog.models, datetime.now(UTC).date().isoformat())
        except BadInput as fault:
            faults += 1
            print(f"{repo}: {fault.message}", file=sys.stderr)
            continue
        overlay.add(own.catalog_dir, seen)
        print(f"{repo}: {seen.lane} at {seen.revision}, {seen.license or 'licence not stated'}, checked {seen.checked}")
    return 1 if faults else 0


def run_add(arguments: argparse.Namespace) -> int:
    """Write a user entry and say where."""
    from catalog import overlay
    from planner import service, settings
    from probes import models

    own = settings.from_environment()
    catalog = service.catalogue(own)
    model = models.read(arguments.source, catalog.models)
    written = overlay.add(own.catalog_dir, model)
    print(f"{model.id}: {written}")
    return 0
