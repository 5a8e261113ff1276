"""`lanewise observe` as a shell sees it: read, compared, kept, forgotten; addresses with bounds."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from catalog.load import load
from planner import cli
from planner.observe import fetching

HERE = Path(__file__).parent
BENCH, LOG = str(HERE / "results" / "llama-bench.json"), str(HERE / "logs" / "llama-server-0.3.36.log")
SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"
ABOUT = ["--model", SMOL, "--accelerator", "rtx4090"]
PLAN = ["plan", "--model", SMOL, "--users", "1", "--on", "rtx4090", "--lanes", "gguf:Q4_1", "--engines", "llama.cpp",
        "--max-loss", "90", "--no-simulate", "--json"]  # fmt: skip


@pytest.fixture(autouse=True)
def data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("LANEWISE_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def document(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert cli.main([*words]) == 0
    return json.loads(capsys.readouterr().out)


def fault(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> str:
    assert cli.main([*words]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err


def test_a_log_stands_beside_its_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    """Weights and cache of a file to the digit that is printed; which term is off is said."""
    found = {one["row"]["metric"]: one for one in document(capsys, "observe", LOG, *ABOUT, "--json")["compared"]}
    for metric in ("model_buffer_mib", "kv_mib"):
        assert found[metric]["ratio"] == pytest.approx(1.0, abs=1e-3)
        assert found[metric]["inside"] is True
    assert found["compute_buffer_mib"]["off"] is True
    assert found["ready_s"]["because"] == "no formula"


def test_the_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["observe", LOG, *ABOUT]) == 0
    printed = capsys.readouterr().out
    for expected in ("llama.cpp start-up log of llama.cpp", "measured/predicted", "the term that is off", "2 of 3"):
        assert expected in printed


def test_what_a_file_does_not_say_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "observe", str(HERE / "results" / "vllm-bench-0.32.0.json"), "--json")
    assert found["compared"] == []
    assert found["missing"] == ["--engine", "--model", "--lane", "--accelerator"]
    message = fault(capsys, 2, "observe", BENCH, "--add")
    assert "--model, --accelerator" in message


def test_observations_change_plans_until_they_are_removed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = document(capsys, *PLAN)
    kept = document(capsys, "observe", BENCH, *ABOUT, "--add", "--json")
    assert len(kept["added"]["added"]) == 2
    mine = document(capsys, *PLAN)
    assert mine["catalog_digest"] != before["catalog_digest"]
    assert mine["choice"]["estimates"]["tpot_p50_s"]["value"] > 2 * before["choice"]["estimates"]["tpot_p50_s"]["value"]
    assert document(capsys, *PLAN, "--no-measurements") == before
    again = document(capsys, "observe", BENCH, *ABOUT, "--add", "--json")
    assert again["added"] == {"added": [], "known": kept["added"]["added"]}
    run = document(capsys, "observe", "--list", "--json")["observations"][0]["run"]
    gone = document(capsys, "observe", "--remove", run, "--json")["removed"]
    assert sorted(gone) == sorted(kept["added"]["added"])
    assert document(capsys, *PLAN) == before
    assert not (data / "catalog" / "observations.csv").exists()


def test_one_number_can_be_forgotten_alone(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = document(capsys, "observe", BENCH, *ABOUT, "--add", "--json")["added"]["added"]
    assert document(capsys, "observe", "--remove", first, "--json")["removed"] == [first]
    assert [row.id for row in load(overlay=data / "catalog").observations] == [second]
    assert "no observation or run" in fault(capsys, 1, "observe", "--remove", first)


def test_measurements_of_quality_and_observations_are_kept_side_by_side(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The digest covers both; the order in which they came makes no difference."""
    rows = tmp_path / "measured.csv"
    rows.write_text(
        f"model,lane,task,task_family,baseline,quantized\n{SMOL},gguf:Q4_1,ours,chat,80,70\n", encoding="utf-8"
    )
    digests = []
    for order in ((0, 1), (1, 0)):
        adding = (["evidence", "--add", str(rows)], ["observe", BENCH, *ABOUT, "--add"])
        for step in order:
            assert cli.main(adding[step]) == 0
        catalog = load(overlay=data / "catalog")
        digests.append(catalog.digest)
        assert catalog.unmeasured.digest == load().digest
        for name in ("evidence.csv", "observations.csv"):
            (data / "catalog" / name).unlink()
    capsys.readouterr()
    assert digests[0] == digests[1] != load().digest


def test_repeats_are_kept_as_their_median_with_a_spread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = json.loads((HERE / "results" / "vllm-bench-0.32.0.json").read_text(encoding="utf-8"))
    files = []
    for number, tpot in enumerate((8.0, 9.0, 13.0)):
        files.append(str(tmp_path / f"run{number}.json"))
        Path(files[-1]).write_text(json.dumps(base | {"mean_tpot_ms": tpot}), encoding="utf-8")
    about = ["--engine", "vllm", "--model", SMOL, "--lane", "bf16", "--accelerator", "l4"]
    found = document(capsys, "observe", *files, *about, "--json")["compared"]
    (row,) = [one["row"] for one in found if (one["row"]["metric"], one["row"]["stat"]) == ("tpot_ms", "mean")]
    assert (row["value"], row["repeats"]) == (9.0, 3)
    assert row["sd"] == pytest.approx(2.6457513)


def test_files_of_two_deployments_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.log"
    other.write_text(Path(LOG).read_text(encoding="utf-8").replace("= 4096", "= 8192"), encoding="utf-8")
    assert "different deployments: context" in fault(capsys, 2, "observe", LOG, str(other), *ABOUT)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["observe"], "say what to read"),
        (["observe", "nowhere.log"], "cannot be read"),
        (["observe", LOG, "--accelerator", "l40x"], "no accelerator 'l40x'"),
        (["observe", LOG, "--accelerator", "l40s:two"], "expected ID or ID:COUNT"),
        (["observe", LOG, "--lane", "int3"], "no lane 'int3'"),
        (["observe", LOG, "--list"], "--list reads no file"),
        (["observe", "ftp://example.org/metrics"], "only http and https"),
    ],
)
def test_bad_input_is_one_sentence(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in fault(capsys, 2, *words)


class Pages(BaseHTTPRequestHandler):
    """Answers by path."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/moved":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
            return
        self.send_response(200 if path in ("/metrics", "/large") else 503)
        self.end_headers()
        page = (HERE / "results" / "llama-server.metrics").read_bytes()
        self.wfile.write(page if path == "/metrics" else b"x" * 4096)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    served = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    thread.join()
    served.server_close()


def test_a_page_of_a_server_is_read(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "observe", f"{server}/metrics?token=secret", "--json")["readings"][0]
    assert (found["engine"], found["source"]) == ("llama.cpp", f"{server}/metrics")


def test_addresses_are_bounded(
    server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In size, to http, without redirections, and a password is never repeated."""
    monkeypatch.setattr(fetching, "MOST_BYTES", 1024)
    assert "more than 0 MiB" in fault(capsys, 1, "observe", f"{server}/large")
    assert "answers 302" in fault(capsys, 1, "observe", f"{server}/moved")
    assert "answers 503" in fault(capsys, 1, "observe", f"{server}/else")
    secret = "http://user:secret@127.0.0.1:1/metrics?key=secret"
    assert "secret" not in fault(capsys, 1, "observe", secret)
