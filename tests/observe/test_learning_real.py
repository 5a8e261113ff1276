"""A plan that learnt from one measurement lies on another, independent one: llama-server, served and loaded here."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import learning
from planner import service, settings
from tests.tools.llamacpp import llamacpp
from tests.tools.trained import trained

pytestmark = [pytest.mark.slow, pytest.mark.long]

HERE = """[[accelerator]]
id = "{id}"
name = "this machine"
vendor = "{vendor}"
kind = "cpu"
architecture = "any"
form = "host"
memory_type = "unknown"
bandwidth = "24 GB/s"
native = ["bf16", "int8"]
per_node = 1
source = "assumed: what is learnt makes up for it"
confidence = "B"
"""


def test_after_verify_plans_of_this_machine_lie_on_a_second_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 10 % or twice the variation of repeats; other machines as they were; undone, everything is."""
    llamacpp()
    monkeypatch.setenv("LLAMA_ARG_THREADS", "1")
    model = trained()
    key, catalog = this_machine(tmp_path)
    words = [str(model.model), "--accelerator", key, "--calibration", str(model.chats), "--lanes", "gguf:Q8_0"]
    assert learning.main([*words, *catalog, "--out", str(tmp_path / "out")]) == 0
    made = json.loads((tmp_path / "out" / "learning.json").read_text())
    assert made["others_stay"]
    assert made["undone"]
    assert made["left_out"]
    assert made["digest_changed"]
    for each in made["learnt"]:
        assert each["basis"] == "measured"
        assert abs(each["off_after"]) <= max(0.10, 2 * each["variation"])


def this_machine(folder: Path) -> tuple[str, list[str]]:
    """The key that the probe finds, or an entry by the first two words of the CPU's name."""
    host = service.probe(settings.from_environment()).host
    if host.accelerator:
        return host.accelerator, []
    words = [word for word in (host.cpu or "").lower().replace("(r)", "").split() if word.isalnum()][:2]
    if len(words) < 2 or sys.platform != "linux":
        pytest.skip(f"no entry can be made for {host.cpu!r}")
    file = folder / "this.toml"
    vendor = "amd" if words[0] == "amd" else "intel"
    file.write_text(HERE.format(id="-".join(words), vendor=vendor))
    return "-".join(words), ["--catalog", str(file)]
