"""Every lane that was served, side by side: the table and its drawings, on the receipts of real runs."""

from __future__ import annotations

import json
from functools import cache
from xml.etree import ElementTree

import msgspec
import pytest

from planner.plan import Plan
from planner.proving import compared
from planner.proving.compared import Comparison
from planner.running import compared_drawing, compared_report, comparing, verify
from tests.chain import serving, world
from tests.chain.lanes import LANES, lanewise, run

pytestmark = pytest.mark.slow


@cache
def table() -> Comparison:
    """As `--all-lanes` makes it of lanes that have been run, each in its folder."""
    plans = {
        LANES[name].lane: msgspec.json.decode(serving.plan(name).read_bytes(), type=Plan) for name in serving.SERVED
    }
    for name in serving.SERVED:
        assert serving.served(name).code == 0
    first = next(iter(plans.values()))
    folder = world.folder() / "served"
    return comparing.run(first, (plans, {}), folder, lambda _, own: verify.read(own / verify.RECEIPT))


def test_every_row_has_size_quality_speed_and_verdict() -> None:
    made = table()
    assert [row.lane for row in made.lanes] == [LANES[name].lane for name in serving.SERVED]
    for name, row in zip(serving.SERVED, made.lanes, strict=True):
        served = serving.served(name).receipt.served
        assert served is not None
        claims = {claim.name: claim for claim in served.claims}
        assert row.bytes is not None
        assert row.divergence is not None
        assert row.divergence.lower is not None
        assert (row.served, row.elsewhere) == ("measured", "")
        for speed in compared.SPEEDS:
            span = row.speeds[speed]
            assert (span.value, span.low, span.high) == (
                claims[speed].measured, claims[speed].measured_low, claims[speed].measured_high,
            )  # fmt: skip
        tokens = row.speeds[compared.TOKENS]
        assert tokens.low is not None
        assert tokens.high is not None
        assert tokens.low <= tokens.value <= tokens.high
        assert compared.RATE in row.speeds
        assert row.verdict in ("pass", "inconclusive")


def test_the_front_is_of_size_divergence_and_speed() -> None:
    made = table()
    assert compared.paced(made.lanes)
    points = {
        row.lane: (*point, row.speeds[compared.PACE].value) for row in made.lanes if (point := compared.point(row))
    }
    kept = {row.lane for row in made.lanes if row.undominated}
    assert kept
    for lane, own in points.items():
        assert (lane in kept) == (not any(compared.beats(other, own) for other in points.values()))


def test_the_table_is_printed_and_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    made = table()
    compared_report.show(made, "")
    said = capsys.readouterr().out
    assert "est." not in "\n".join(said.splitlines()[: 4 + 2 * len(made.lanes)]), "every speed was measured"
    assert "ms a token" in said
    assert all(row.lane in said for row in made.lanes)
    svg = compared_drawing.svg(made)
    assert svg is not None
    assert "ms per output token" in " ".join(ElementTree.fromstring(svg).itertext())


def test_the_command_plans_and_serves_lane_after_lane() -> None:
    """`--all-lanes` itself, on a lane that takes no calibration, and one that no CPU has a kernel for."""
    lanes = ("gguf:Q8_0", "nvfp4")
    source = world.folder() / "served-all.request.json"
    source.write_bytes(msgspec.json.encode(serving.asked(LANES["gguf-Q8_0"], lanes)))
    folder, own = world.folder() / "all", {"LANEWISE_CATALOG_DIR": str(serving.catalogue())}
    words = (
        "--serve-only", "--requests", 5, "--search", 0, "--no-store", "--reuse", world.verified("gguf-Q8_0").folder,
    )  # fmt: skip
    done = lanewise(
        "verify", source, "--run", folder, "--all-lanes", ",".join(lanes), *words, cwd=world.folder(), **own
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (row,) = json.loads((folder / comparing.TABLE).read_bytes())["lanes"]
    assert (row["lane"], row["served"]) == ("gguf:Q8_0", "measured")
    assert {"ttft_p50_s", "tpot_p50_s", "output_tokens_per_s"} <= row["speeds"].keys()
    assert "not planned nvfp4: H" in done.stdout


def test_a_lane_without_a_kernel_on_cpus_says_that_it_is_not_served() -> None:
    """Its gates are measured all the same."""
    name = "nvfp4"
    world.verified(name)
    words = ("--text", world.model().held_out, *world.asked(), "--serve", *serving.SHORT)
    found = run(world.plan(name), world.folder() / "served" / name, *words)
    assert found.code == 0, found.err[-3000:]
    served = found.receipt.served
    assert served is not None
    if found.receipt.hardware["gpus"]:
        pytest.skip("this machine has a GPU")
    assert served.outcome == "not possible here"
    assert served.because.startswith("served: not possible here: ")
    assert served.claims == ()
    assert all(gate.measured for gate in found.receipt.gates)
    assert "not possible here" in (found.folder / "receipt.md").read_text()
