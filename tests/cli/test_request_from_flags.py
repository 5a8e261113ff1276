"""Flags spell a request; they lie over the file they are given with."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from catalog.errors import BadInput
from planner.cli import parser
from planner.cli.plan import document


def spelled(*words: str) -> dict[str, Any]:
    """The request that `lanewise plan WORDS` decodes."""
    data, kind = document(parser().parse_args(["plan", *words]))
    return msgspec.json.decode(data) if kind == "json" else msgspec.toml.decode(data)


def test_every_flag_lands_in_its_field() -> None:
    request = spelled(
        *("--model", "org/name", "--qps", "4", "--prompt", "1500", "--output", "300", "--context", "16384"),
        *("--mix", "chat=0.6,code=0.4", "--on", "l4:8", "--on", "h100-sxm5-80", "--usd-per-month", "2000"),
        *("--ttft-p95-ms", "1000", "--tpot-p95-ms", "50", "--e2e-p95-ms", "20000", "--max-loss", "1.5"),
        *("--objective", "latency", "--lanes", "fp8,gguf:Q4_K_M", "--engines", "vllm"),
    )
    assert request == {
        "model": "org/name",
        "workload": {
            "qps": 4,
            "prompt_tokens": {"mean": 1500},
            "output_tokens": {"mean": 300},
            "context_tokens_max": 16384,
            "mix": {"chat": 0.6, "code": 0.4},
        },
        "slo": {"ttft_ms": {"p95": 1000}, "tpot_ms": {"p95": 50}, "e2e_ms": {"p95": 20000}},
        "quality": {"max_loss_pct": 1.5},
        "hardware": {"accelerators": [{"id": "l4", "count": 8}, {"id": "h100-sxm5-80", "count": 1}]},
        "budget": {"usd_per_month": 2000},
        "objective": "latency",
        "lanes": ["fp8", "gguf:Q4_K_M"],
        "engines": ["vllm"],
    }


def test_what_is_not_given_is_not_said() -> None:
    assert spelled("--model", "org/name", "--users", "12", "--any") == {
        "model": "org/name",
        "workload": {"users": 12},
        "hardware": {"any": {}},
    }


def test_a_file_alone_is_passed_on_byte_for_byte(tmp_path: Path) -> None:
    file = tmp_path / "request.toml"
    file.write_bytes(b'model = "a"   # as typed\n')
    assert document(parser().parse_args(["plan", str(file)])) == (b'model = "a"   # as typed\n', "toml")


def test_flags_lie_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_text('{"model": "a", "workload": {"users": 3, "burstiness": 2}, "hardware": {"any": {}}}')
    assert spelled(str(file), "--qps", "9", "--on", "l4:2") == {
        "model": "a",
        "workload": {"qps": 9, "burstiness": 2},
        "hardware": {"accelerators": [{"id": "l4", "count": 2}]},
    }


@pytest.mark.parametrize(("text", "kind"), [(' {"model": "a"}', "json"), ('model = "a"', "toml")])
def test_stdin_may_be_either(monkeypatch: pytest.MonkeyPatch, text: str, kind: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert document(parser().parse_args(["plan", "-"])) == (text.encode(), kind)


@pytest.mark.parametrize(
    ("words", "path"),
    [
        ([], "$.model"),
        (["missing.toml"], "missing.toml"),
        (["request.yaml"], "request.yaml"),
        (["--model", "a", "--on", "l4:many"], "--on"),
        (["--model", "a", "--mix", "chat"], "--mix"),
        (["--model", "a", "--on", "l4", "--any"], "--any"),
    ],
)
def test_a_fault_names_its_place(words: list[str], path: str) -> None:
    with pytest.raises(BadInput) as caught:
        spelled(*words)
    assert caught.value.path == path


def test_this_machine_is_a_probe() -> None:
    assert spelled("--model", "a", "--qps", "1", "--here")["hardware"] == {"probe": True}


def test_a_machine_elsewhere_is_its_inventory() -> None:
    asked = spelled("--model", "a", "--qps", "1", "--inventory", "examples/inventories/a100s.json")
    assert asked["hardware"]["inventory"]["driver"] == "580.95.05"


@pytest.mark.parametrize("two", [("--here", "--any"), ("--on", "l4", "--here"), ("--inventory", "x.json", "--any")])
def test_hardware_is_said_once(two: tuple[str, ...]) -> None:
    with pytest.raises(BadInput, match="say once"):
        spelled("--model", "a", "--qps", "1", *two)


def test_any_field_can_be_set_by_its_path() -> None:
    asked = spelled(
        "--model", "a", "--qps", "1", "--on", "l4:2", "--set", "hardware.accelerators[0].usd_per_hour=1.5",
        "--set", "workload.lora.merged=true", "--set", "hardware.reserved.memory_gib=2", "--set", "as_of=2026-11-21",
    )  # fmt: skip
    assert asked["hardware"]["accelerators"] == [{"id": "l4", "count": 2, "usd_per_hour": 1.5}]
    assert asked["hardware"]["reserved"] == {"memory_gib": 2}
    assert asked["workload"]["lora"] == {"merged": True}
    assert asked["as_of"] == "2026-11-21"


@pytest.mark.parametrize("bad", ["", "workload.qps", "=1", "workload..qps=1", "hardware.accelerators[3].count=1"])
def test_a_path_that_is_none_is_refused(bad: str) -> None:
    with pytest.raises(BadInput):
        spelled("--model", "a", "--qps", "1", "--set", bad)
