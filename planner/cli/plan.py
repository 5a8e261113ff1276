"""`lanewise plan`: a request from a file, from stdin or from flags; an answer for people or as JSON."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Literal

import msgspec

from catalog.errors import BadInput
from planner.cli.assign import assigned
from planner.cli.common import Commands, number, write_document
from planner.request import Request

EXAMPLES = """examples:
  lanewise plan examples/support-chat.toml --out launch
  lanewise plan --model Qwen/Qwen3-8B --qps 4 --on l4:4 --on h100-sxm5-80:1
  lanewise plan request.toml --qps 12 --json     flags replace what the file says"""


def add_to(commands: Commands) -> None:
    """Declare `plan` and its flags."""
    plan = commands.add_parser(
        "plan",
        help="which lane, engine and hardware to ship, how fast, at what cost and quality",
        description="Plan one deployment. Give a request file (TOML or JSON, `-` for stdin), flags, or both.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    plan.add_argument("request", nargs="?", metavar="REQUEST", help="request file: .toml, .json, or - for stdin")
    _add_workload(plan.add_argument_group("workload"))
    _add_hardware(plan.add_argument_group("hardware and money"))
    _add_limits(plan.add_argument_group("objectives"))
    answer = plan.add_argument_group("answer")
    answer.add_argument("--json", action="store_true", help="print the plan as one JSON document")
    answer.add_argument("--explain", action="store_true", help="print how every number was made, and all findings")
    answer.add_argument(
        "--no-simulate", action="store_true", help="formulas alone: no event simulation of what is shown"
    )
    answer.add_argument("--no-measurements", action="store_true", help="leave own measurements out")
    answer.add_argument("--out", type=Path, metavar="DIR", help="write the launch files of the choice into DIR")
    plan.set_defaults(run=run)


def _add_workload(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--model", help="catalogue or hub id, a local folder, or a .gguf file")
    group.add_argument("--qps", type=number, help="peak requests per second")
    group.add_argument("--users", type=number, help="concurrent users (closed loop), instead of --qps")
    group.add_argument(
        "--trace", metavar="FILE", help="recorded requests (.csv or .jsonl: arrival_s, prompt_tokens, output_tokens)"
    )
    group.add_argument("--prompt", type=number, metavar="TOKENS", help="mean prompt length")
    group.add_argument("--output", type=number, metavar="TOKENS", help="mean answer length")
    group.add_argument("--context", type=int, metavar="TOKENS", help="longest context to serve")
    group.add_argument("--languages", metavar="CODE=SHARE,…", help="languages of the work, for example en=0.6,de=0.4")
    group.add_argument("--mix", metavar="FAMILY=SHARE,…", help="what is asked, for example code=0.4,chat=0.6")


def _add_hardware(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--on",
        action="append",
        metavar="ACCELERATOR[:COUNT]",
        help="what you have (COUNT at most, default 1); repeat for alternatives",
    )
    group.add_argument("--any", action="store_true", help="whatever is cheapest among the catalogue's offers")
    group.add_argument("--here", action="store_true", help="this machine, with what is free on it now")
    group.add_argument("--inventory", type=Path, metavar="FILE", help="a machine as `lanewise probe --json` printed it")
    group.add_argument("--usd-per-month", type=number, metavar="USD", help="budget")


def _add_limits(group: argparse._ArgumentGroup) -> None:
    for flag, what in (("ttft", "time to first token"), ("tpot", "time per output token"), ("e2e", "whole answer")):
        group.add_argument(f"--{flag}-p95-ms", type=number, metavar="MS", help=f"{what}, 95th percentile")
    group.add_argument("--max-loss", type=number, metavar="PERCENT", help="tolerated quality loss")
    group.add_argument("--objective", choices=("cost", "latency", "quality", "energy"), help="what to minimise")
    group.add_argument("--lanes", metavar="LANE,…", help="only these lanes, for example fp8,awq-int4,gguf:Q4_K_M")
    group.add_argument(
        "--engine-version",
        action="append",
        metavar="ENGINE=VERSION",
        help="plan for this version: vllm=0.19",
    )
    group.add_argument("--engines", metavar="ENGINE,…", help="only these engines, for example vllm")
    group.add_argument(
        "--set", action="append", metavar="PATH=VALUE", help="any field of the request, for example workload.lora=true"
    )
    group.add_argument("--waive", metavar="RULE,…", help="rules whose judgement is yours, for example Q301")


def run(arguments: argparse.Namespace) -> int:
    """Plan, answer, write the launch files; 3 when nothing is feasible."""
    from planner import decode, service, settings

    data, kind = document(arguments)
    own = msgspec.structs.replace(settings.from_environment(), measurements=not arguments.no_measurements)
    request = simulating(service.with_trace(decode.decode(data, kind)), asked=not arguments.no_simulate)
    plan = service.make_plan(request, own)
    written: tuple[Path, ...] = ()
    if arguments.out and plan.feasible:
        from planner import render

        written = render.write(arguments.out, service.launch_files(plan, own))
    if arguments.json:
        write_document(service.encode(plan))
    else:
        from planner import report

        report.show(plan, explain=arguments.explain, written=written)
    return 0 if plan.feasible else 3


def simulating(request: Request, *, asked: bool) -> Request:
    """The request with the event simulation that the command asks for unless the request says something of it."""
    if not asked:
        return msgspec.structs.replace(request, simulate=None)
    return msgspec.structs.replace(request, simulate=True) if request.simulate is None else request


Kind = Literal["json", "toml"]


def document(arguments: argparse.Namespace) -> tuple[bytes, Kind]:
    """The request as bytes: the file as it stands, or with the flags laid over it."""
    flags = from_flags(arguments)
    own = arguments.set or []
    if arguments.request is None:
        if "model" not in flags:
            raise BadInput("give a request file or --model", "$.model")
        return msgspec.json.encode(assigned(flags, own)), "json"
    data, kind = read_file(arguments.request)
    if not flags and not own:
        return data, kind
    return msgspec.json.encode(assigned(_merged(_parsed(data, kind, arguments.request), flags), own)), "json"


def read_file(source: str) -> tuple[bytes, Kind]:
    """A request file, or stdin for `-`, as it stands. Raises BadInput."""
    if source == "-":
        data = sys.stdin.buffer.read()
        return data, "json" if data.lstrip().startswith(b"{") else "toml"
    path = Path(source)
    if path.suffix not in {".toml", ".json"}:
        raise BadInput("a request file ends in .toml or .json", source)
    try:
        return path.read_bytes(), "json" if path.suffix == ".json" else "toml"
    except OSError as error:
        raise BadInput(f"cannot read the request: {error.strerror}", source) from error


def _parsed(data: bytes, kind: Kind, source: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict) if kind == "json" else msgspec.toml.decode(data, type=dict)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"not {kind.upper()}: {error}", source) from error


WHOLE = {"hardware", "mix", "languages"}
"""Fields that are one thing: another value replaces the whole of it."""


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` wins, key by key; hardware and rate are alternatives, so a new one replaces the old one whole."""
    merged = dict(under)
    for key, value in over.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict) and key not in WHOLE
        merged[key] = _merged(merged[key], value) if nested else value
    if {"qps", "users", "trace"} & over.keys():
        said = {"prompt_tokens", "output_tokens", "burstiness"} if "trace" in over else set()
        for rate in ({"qps", "qps_mean", "users", "batch", "trace"} | said) - over.keys():
            merged.pop(rate, None)
    return merged


def from_flags(arguments: argparse.Namespace) -> dict[str, Any]:
    """The request that the flags spell, without the parts that were not given."""
    workload = {
        "qps": arguments.qps,
        "users": arguments.users,
        "trace": arguments.trace,
        "prompt_tokens": _mean(arguments.prompt),
        "output_tokens": _mean(arguments.output),
        "context_tokens_max": arguments.context,
        "mix": _shares(arguments.mix, "--mix"),
        "languages": _shares(arguments.languages, "--languages"),
    }
    slo = {f"{name}_ms": _p95(getattr(arguments, f"{name}_p95_ms")) for name in ("ttft", "tpot", "e2e")}
    flags = {
        "model": arguments.model,
        "workload": given(workload),
        "slo": given(slo),
        "quality": given({"max_loss_pct": arguments.max_loss}),
        "hardware": hardware(arguments),
        "budget": given({"usd_per_month": arguments.usd_per_month}),
        "objective": arguments.objective,
        "lanes": _list(arguments.lanes),
        "engines": _list(arguments.engines),
        "engine_versions": versions(arguments.engine_version),
        "overrides": given({"waive": _list(arguments.waive)}),
    }
    return given(flags)


def given(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields without those that were not given."""
    return {name: value for name, value in fields.items() if value is not None and value != {}}


def _mean(tokens: float | None) -> dict[str, float] | None:
    return None if tokens is None else {"mean": tokens}


def _p95(milliseconds: float | None) -> dict[str, float] | None:
    return None if milliseconds is None else {"p95": milliseconds}


def _list(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def versions(pins: list[str] | None) -> dict[str, str] | None:
    """`--engine-version ENGINE=VERSION`, each engine once. Raises BadInput."""
    if pins is None:
        return None
    for pin in pins:
        if not all(pin.partition("=")):
            raise BadInput(f"expected ENGINE=VERSION, got {pin!r}", "--engine-version")
    return dict(pin.split("=", 1) for pin in pins)


def _shares(text: str | None, flag: str) -> dict[str, float] | None:
    if text is None:
        return None
    shares = dict(part.partition("=")[::2] for part in text.split(","))
    try:
        return {name.strip(): float(share) for name, share in shares.items()}
    except ValueError as error:
        raise BadInput(f"expected NAME=SHARE,… with numbers, got {text!r}", flag) from error


def hardware(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """What the flags say there is; None where they say nothing. Raises BadInput for more than one way."""
    anything = getattr(arguments, "any", False)
    ways = {"--on": arguments.on, "--any": anything, "--here": arguments.here, "--inventory": arguments.inventory}
    given = [flag for flag, value in ways.items() if value]
    if len(given) > 1:
        raise BadInput(f"say once what there is, not with {' and '.join(given)}", given[-1])
    if anything:
        return {"any": {}}
    if arguments.here:
        return {"probe": True}
    if arguments.inventory:
        return {"inventory": _inventory(arguments.inventory)}
    return {"accelerators": [_accelerator(text) for text in arguments.on]} if arguments.on else None


def _inventory(path: Path) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise BadInput(f"cannot read the inventory: {error.strerror}", str(path)) from error
    except msgspec.DecodeError as error:
        raise BadInput(f"not JSON: {error}", str(path)) from error


def _accelerator(text: str) -> dict[str, Any]:
    name, colon, count = text.partition(":")
    if colon and not count.isdecimal():
        raise BadInput(f"expected ACCELERATOR or ACCELERATOR:COUNT, got {text!r}", "--on")
    return {"id": name, "count": int(count) if colon else 1}
