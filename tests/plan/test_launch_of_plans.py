"""What a plan decides is what its launch files start: every real case, run with a stub engine that records its argv."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner import service
from planner.plan import Plan
from planner.render import write
from planner.settings import Settings
from tests.launch.stub import run
from tests.plan.asking import planned
from tests.plan.test_cases import CASES, request_of
from tests.tools.vllm_parser import vllm_parser

FEASIBLE = [name for name, case in CASES.items() if case["feasible"]]


def heard(name: str, scratch: Path) -> tuple[Plan, tuple[str, ...]]:
    """The plan of a case, and the words that its rendered script gives to the engine."""
    plan = planned(request_of(CASES[name]))
    scratch.mkdir(parents=True, exist_ok=True)
    paths = write(scratch, service.launch_files(plan, Settings(catalog_dir=scratch / "none", database_url="")))
    script = next(path for path in paths if path.name == "serve.sh")
    return plan, run(script, scratch).argv


@pytest.mark.parametrize("name", FEASIBLE)
def test_the_engine_hears_the_plans_own_numbers(name: str, tmp_path: Path) -> None:
    plan, argv = heard(name, tmp_path)
    assert plan.choice is not None
    pool, words = plan.choice.pools[0], " ".join(argv)
    assert {file.name for file in plan.launch} >= {"serve.sh", "README.md"}
    if plan.choice.engine == "vllm":
        text = (tmp_path / "vllm" / "config.yaml").read_text() + words
        for number in (pool.settings.max_model_len, pool.settings.max_num_seqs, pool.settings.max_num_batched_tokens):
            assert str(number) in text
        assert plan.choice.recipe.online == ("quantization" in text)
    else:
        assert "-np" in argv or "--parallel" in argv
        assert str(pool.settings.max_num_seqs) in argv


@pytest.mark.slow
def test_vllm_parses_what_real_plans_start(tmp_path: Path) -> None:
    words = {}
    for number, name in enumerate(FEASIBLE):
        plan, argv = heard(name, tmp_path / str(number))
        if plan.choice is not None and plan.choice.engine == "vllm":
            words[name] = argv
    results = vllm_parser().check([(argv, None) for argv in words.values()], tmp_path)
    assert len(words) >= 20
    assert not [name for name, result in zip(words, results, strict=True) if "error" in result]
