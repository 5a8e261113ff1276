"""vLLM 0.33 itself reads every launch file we write. Slow: needs the tool environment of tests/tools/vllm_parser.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from planner import engines
from planner.launch import Adapter
from planner.render import files, write
from tests.launch.candidates import CASES, Case, engine, facts
from tests.launch.stub import run
from tests.launch.test_scripts import NASTY
from tests.plan.asking import ask, device, planned
from tests.tools.vllm_parser import MODELS, Parser, folder_of, vllm_parser

pytestmark = pytest.mark.slow
VLLM = {name: case for name, case in CASES.items() if case.candidate.engine == "vllm"}
ONLINE = "fp8-online-l40s-replicas"


@pytest.fixture(scope="module")
def parser() -> Parser:
    return vllm_parser()


def heard(case: Case, scratch: Path) -> tuple[str, ...]:
    """The words that the rendered script gives to vllm."""
    scratch.mkdir()
    paths = write(scratch, files(case.candidate, facts(case.candidate), case.options))
    return run(paths[0], scratch).argv


def meant(case: Case) -> dict[str, Any]:
    """The names a case chooses, as vLLM's parser reports them."""
    launch = engines.launch(case.candidate, facts(case.candidate), case.options)
    return {
        "model": launch.model,
        "revision": launch.revision,
        "served": [launch.served_name],
        "host": launch.host,
        "port": launch.port,
        "adapters": [[adapter.name, adapter.path] for adapter in case.options.adapters],
    }


def hostile(text: str) -> Case:
    case = CASES["fp16-t4-lora"]
    adapters = (Adapter(name=text, path=text), Adapter(name="plain", path="/srv/lora/plain"))
    options = msgspec.structs.replace(
        case.options, model=text, served_name=text, host=text, revision=text, adapters=adapters
    )
    return msgspec.structs.replace(case, options=options)


def test_vllm_understands_every_golden_launch(parser: Parser, tmp_path: Path) -> None:
    results = parser.check([(heard(case, tmp_path / name), case.model) for name, case in VLLM.items()], tmp_path)
    for (name, case), result in zip(VLLM.items(), results, strict=True):
        assert result.get("names") == meant(case), (name, result)
        launch = engines.launch(case.candidate, facts(case.candidate), case.options)
        _same_numbers(name, launch.settings, result["config"])


def test_vllm_hears_hostile_names_as_they_are(parser: Parser, tmp_path: Path) -> None:
    cases = [hostile(text) for text in NASTY]
    words = [(heard(case, tmp_path / str(index)), None) for index, case in enumerate(cases)]
    for case, result in zip(cases, parser.check(words, tmp_path), strict=True):
        assert result.get("names") == meant(case), result


def test_vllm_knows_every_flag_we_list_and_refuses_every_flag_we_call_gone(parser: Parser, tmp_path: Path) -> None:
    rows = [row for row in engine("vllm-0.33").flags if row.name != "--config"]
    words = [
        ("serve", "m", row.name, *values)
        for row in rows
        for values in [VALUES.get(row.name, () if row.negation else ("1024",))]
    ]
    negations = [("serve", "m", row.negation) for row in rows if row.negation]
    results = parser.check([(argv, None) for argv in (*words, *negations)], tmp_path)
    refused = [argv[2] for argv, result in zip((*words, *negations), results, strict=True) if "error" in result]
    assert refused == [row.name for row in rows if row.until]


VALUES = {
    "--dtype": ("auto",),
    "--kv-cache-dtype": ("fp8",),
    "--generation-config": ("vllm",),
    "--speculative-config": ('{"method": "ngram", "num_speculative_tokens": 2}',),
    "--lora-modules": ('{"name": "a", "path": "/b"}',),
    "--max-lora-rank": ("16",),
    "--gpu-memory-utilization": ("0.9",),
}
"""A value that each flag accepts, where 1024 is none."""


DRAFTS = {
    "ngram": (None, "dense", "meta-llama/Llama-3.1-8B-Instruct"),
    "eagle3": ("eagle", "dense", "meta-llama/Llama-3.1-8B-Instruct"),
    "draft": ("dense-small", "dense", "meta-llama/Llama-3.1-8B-Instruct"),
    "mtp": (None, "predicts-tokens", "deepseek-ai/DeepSeek-R1"),
}
"""Method to the drafter's configuration, the model's, and a catalogue model that can be planned with it."""


def test_vllm_takes_the_drafts_that_plans_write(parser: Parser, tmp_path: Path) -> None:
    words: list[tuple[tuple[str, ...], str | None]] = []
    for method, (drafter, model, planned_as) in DRAFTS.items():
        asked = {
            "method": method,
            "tokens": 3,
            **({"draft_model": "meta-llama/Llama-3.2-1B-Instruct"} if drafter else {}),
        }
        config = json.loads(_drafted(planned_as, asked))
        if drafter:
            config["model"] = str(folder_of(tmp_path, drafter))
        words.append((("serve", "m", "--max-model-len", "8192", "--speculative-config", json.dumps(config)), model))
    methods = [result["config"]["speculative-config"] for result in parser.check(words, tmp_path)]
    assert methods == ["ngram", "eagle3", "draft_model", "mtp"]


def _drafted(model: str, asked: dict[str, Any]) -> str:
    """The flag of a plan with these drafts; a model that drafts is one of the same vocabulary."""
    where = device("h200-sxm5", 8)
    choice = planned(ask(model, where, engines=["vllm"], workload={"users": 2}, speculative=asked)).choice
    assert choice is not None
    return str(choice.pools[0].settings.speculative)


def test_what_vllm_would_refuse_is_seen(parser: Parser, tmp_path: Path) -> None:
    """The check can fail: a removed flag, an unknown key, TP that does not divide the heads, too long a context."""
    (tmp_path / "bad.yaml").write_text("no-such-key: 3\n")
    cases = [
        (("serve", "m", "--swap-space", "4"), "dense"),
        (("serve", "m", "--config", str(tmp_path / "bad.yaml")), "dense"),
        (("serve", "m", "--tensor-parallel-size", "3"), "dense"),
        (("serve", "m", "--max-model-len", "999999"), "dense"),
        (("serve", "m", "--quantization", "bitsandbytes"), "dense"),
        (("serve", "m", "--enable-expert-parallel"), "dense"),
        (("serve", "m", "--quantization", "awq"), "dense-fp8"),
    ]
    assert all("error" in result for result in parser.check(cases, tmp_path))


def _same_numbers(name: str, settings: dict[str, Any], config: dict[str, Any]) -> None:
    case = CASES[name]
    for key in config.keys() & settings.keys() - {"dtype", "kv-cache-dtype", "speculative-config"}:
        assert config[key] == settings[key], (name, key)
    assert config["enable-lora"] == bool(case.options.adapters), name
    assert config["enable-expert-parallel"] == ("enable-expert-parallel" in settings), name
    assert config["speculative-config"] == settings.get("speculative-config", {}).get("method"), name
    assert ("fp8" in config["kv-cache-dtype"]) == (settings["kv-cache-dtype"] == "fp8"), name
    if settings["dtype"] != "auto":
        assert config["dtype"] == f"torch.{settings['dtype']}", name
    if "quantization" not in settings:
        checkpoint = MODELS[case.model].get("quantization_config", {}).get("quant_method")
        assert config["quantization"] == checkpoint, name
