"""A trace: read strictly with file and line, described as a load, planned for its peak, replayed by the simulation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from catalog.errors import BadInput
from planner import arrivals, cli
from planner.request import Arrival
from planner.simulation.requests import Draw, draw
from tests.plan.asking import ask, device, planned

HEAD = "arrival_s,prompt_tokens,output_tokens\n"


def drawn(count: int, rate: float, burstiness: float = 1.0) -> tuple[Arrival, ...]:
    load = Draw(
        rate=rate, burstiness=burstiness, prompt=600, prompt_sigma=0.7, output=150, output_sigma=0.5, context=8192
    )
    found = draw(load, count, 3)
    columns = found.arrival.tolist(), found.prompt.tolist(), found.output.tolist()
    return tuple(
        Arrival(arrival_s=arrival, prompt_tokens=prompt, output_tokens=output)
        for arrival, prompt, output in zip(*columns, strict=True)
    )


def rows(trace: tuple[Arrival, ...]) -> list[dict[str, Any]]:
    return [msgspec.to_builtins(row) for row in trace]


@pytest.mark.parametrize("burstiness", [0.5, 1.0, 2.0])
def test_what_was_drawn_from_a_load_is_described_by_it(burstiness: float) -> None:
    found = arrivals.described(drawn(20_000, 3.0, burstiness))
    assert found.mean == pytest.approx(3.0, rel=0.01)
    assert found.burstiness == pytest.approx(burstiness, rel=0.1)
    assert (found.prompt.mean, found.output.mean) == (pytest.approx(600, rel=0.01), pytest.approx(150, rel=0.01))
    assert found.prompt.sigma == pytest.approx(0.7, rel=0.03)
    assert found.output.sigma == pytest.approx(0.5, rel=0.03)


def test_the_busiest_minute_decides_the_rate() -> None:
    """One request a second for ten minutes, and ten a second in the fifth."""
    times = [float(second) for second in range(600)] + [240 + step / 10 for step in range(600)]
    trace = tuple(Arrival(arrival_s=time, prompt_tokens=10, output_tokens=10) for time in times)
    found = arrivals.described(trace)
    assert found.peak == pytest.approx(11.0, rel=0.01)
    assert found.mean == pytest.approx(2.0, rel=0.01)
    later = tuple(msgspec.structs.replace(row, arrival_s=row.arrival_s + 1e6) for row in reversed(trace))
    assert arrivals.described(later) == found


def test_files_and_rows_are_the_same_request(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    trace = drawn(300, 2.0)
    lines = tmp_path / "trace.jsonl"
    lines.write_bytes(b"\n".join(msgspec.json.encode(row) for row in trace) + b"\n\n")
    table = tmp_path / "trace.csv"
    body = "".join(f"x,{row.prompt_tokens},{row.arrival_s!r},{row.output_tokens}\n" for row in trace)
    table.write_text("user,prompt_tokens,arrival_s,output_tokens\n" + body)
    assert arrivals.read(lines.read_bytes(), "a.jsonl") == trace
    assert arrivals.read(table.read_bytes(), "a.csv") == trace
    inline = tmp_path / "request.json"
    words = {"model": "Qwen/Qwen3-8B", "hardware": {"accelerators": [device("l4", 4)]}}
    inline.write_bytes(msgspec.json.encode(words | {"workload": {"trace": rows(trace)}}))
    named = ("--model", "Qwen/Qwen3-8B", "--on", "l4:4", "--trace")
    for command in ((str(inline),), (*named, str(lines)), (*named, str(table))):
        assert cli.main(["plan", *command, "--json"]) == 0
    one, two, three = capsysbinary.readouterr().out.split(b"\n}\n")[:3]
    assert one == two == three


@pytest.mark.parametrize(
    ("name", "text", "place", "words"),
    [
        ("a.csv", HEAD + "0,10,10\n1,ten,10\n", "a.csv:3", "prompt_tokens"),
        ("a.csv", HEAD + "0,10,10\n1,10\n", "a.csv:3", "output_tokens"),
        ("a.csv", HEAD + "0,10,0\n", "a.csv:2", "at least 1 token"),
        ("a.csv", HEAD + "nan,10,10\n", "a.csv:2", "a time of 0 s or more"),
        ("a.csv", "arrival_s,prompt_tokens\n0,10\n", "a.csv:1", "output_tokens is missing"),
        ("a.csv", "", "a.csv:1", "arrival_s is missing"),
        ("a.jsonl", '{"arrival_s": 0, "prompt_tokens": 1, "output_tokens": 1}\n{"arrival_s": 1\n', "a.jsonl:2", "JSON"),
        ("a.jsonl", '{"arrival_s": 0, "prompt": 1}\n', "a.jsonl:1", "prompt"),
        ("a.txt", HEAD, "a.txt", ".csv or .jsonl"),
    ],
)
def test_a_fault_in_a_file_names_the_line(name: str, text: str, place: str, words: str) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        arrivals.read(text.encode(), name)
    assert caught.value.path == place


@pytest.mark.parametrize(
    ("trace", "words"),
    [
        (rows(drawn(1, 1.0)), "2 to 100,000 requests"),
        ([{"arrival_s": 5, "prompt_tokens": 10, "output_tokens": 10}] * 3, "at different times"),
        ([{"arrival_s": t, "prompt_tokens": 10**6, "output_tokens": 10} for t in (0, 1)], "more than the context"),
        ("trace.csv", "not a file's name"),
    ],
)
def test_what_no_plan_can_be_made_of_is_refused(trace: Any, words: str) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        planned(ask("Qwen/Qwen3-8B", device("l4"), workload={"trace": trace}))
    assert caught.value.path == "$.workload.trace"


def test_a_missing_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = str(tmp_path / "gone.csv")
    assert cli.main(["plan", "--model", "Qwen/Qwen3-8B", "--on", "l4", "--trace", gone]) == 2
    assert gone in capsys.readouterr().err


def test_a_plan_carries_the_peak_and_replays_the_trace() -> None:
    calm, busy = drawn(600, 1.0), drawn(900, 9.0)
    shifted = tuple(msgspec.structs.replace(row, arrival_s=row.arrival_s + 700) for row in busy)
    plan = planned(ask("Qwen/Qwen3-8B", device("l4", 8), workload={"trace": rows((*calm, *shifted))}, simulate=True))
    assert plan.choice is not None
    said, replicas = plan.choice.simulated, plan.choice.pools[0].replicas
    assumed = {each.path: each.value for each in plan.assumptions}
    assert assumed["workload.qps"] == pytest.approx(9.5, rel=0.1)
    assert assumed["workload.qps_mean"] == pytest.approx(1500 / 800, rel=0.1)
    assert plan.choice.estimates["requests_per_s"].value == pytest.approx(assumed["workload.qps"], rel=1e-3)
    assert said is not None
    assert said.requests == int(np.ceil(1500 / replicas))
    assert {name.split("_")[0] for name in said.replaces} == {"ttft", "tpot", "e2e"}
    assert plan.request["workload"]["trace"][0] == rows(calm)[0]
