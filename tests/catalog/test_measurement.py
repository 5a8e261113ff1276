"""Own measurements: strictly read, all or none, and the same to the digest wherever they are kept."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import measurement, overlay
from catalog.errors import BadInput
from catalog.evidence import Evidence
from catalog.load import DATA, Catalog, load
from catalog.units import parameters, tokens

MINIMUM = "model,lane,task,task_family,baseline,quantized"
LINE = "Qwen/Qwen3-8B,awq-int4,our tests,code,80,76"
STATED: dict[str, Any] = {
    "model": "Qwen/Qwen3-8B", "lane": "awq-int4", "task": "our tests", "task_family": "code",
    "baseline": 80, "quantized": 76,
}  # fmt: skip


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load()


def table(*lines: str, header: str = MINIMUM) -> bytes:
    return "\n".join([header, *lines, ""]).encode()


def read(catalog: Catalog, *lines: str, header: str = MINIMUM) -> tuple[Evidence, ...]:
    return measurement.read_csv(table(*lines, header=header), "m.csv", catalog)


def test_the_least_that_is_said_makes_a_row(catalog: Catalog) -> None:
    (row,) = read(catalog, LINE)
    assert (row.recovery, row.citation, row.grade, row.own) == (95.0, "own measurement", "A", True)
    assert (row.lane, row.params, row.higher_is_better) == (
        "awq-int4",
        catalog.model("Qwen/Qwen3-8B").total_params,
        True,
    )
    assert measurement.read_json(json.dumps(STATED).encode(), catalog) == (row,)
    assert measurement.read_json(json.dumps([STATED, STATED]).encode(), catalog) == (row,)


def test_a_recovery_is_computed_and_never_read(catalog: Catalog) -> None:
    header = MINIMUM + ",recovery"
    assert read(catalog, LINE + ",12", LINE + ",high", header=header) == read(catalog, LINE)
    (perplexity,) = read(catalog, "Qwen/Qwen3-8B,gguf:Q4_K_M,wikitext-2,ppl,8,10")
    assert (perplexity.recovery, perplexity.higher_is_better) == (80.0, False)
    (divergence,) = read(catalog, "Qwen/Qwen3-8B,gguf:Q4_K_M,wikitext-2,kld,0,0.02")
    assert divergence.recovery is None


def test_the_shipped_table_is_read_as_the_loader_reads_it(catalog: Catalog) -> None:
    """Line by line, but for methods that are no lane, sizes that nobody stated, and differences of scores."""
    shipped = list(csv.DictReader(io.StringIO((DATA / "evidence.csv").read_text(encoding="utf-8"))))
    published = {row.id: row for row in catalog.evidence}
    lines = [line for line in shipped if published[line["id"]].lane != "-" and line["params"]]
    compared = [line for line in lines if float(line["baseline"]) > 0 or line["task_family"] == "kld"]
    assert len(compared) > 1000
    for line in compared:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(line)[1:], lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerow(line)
        (row,) = measurement.read_csv(text.getvalue().encode(), "m.csv", catalog)
        truth = published[line["id"]]
        same = {"id": row.id, "own": True, "recovery": row.recovery, "note": truth.note.strip()}
        assert row == msgspec.structs.replace(truth, **same)
        if truth.recovery is not None:
            assert row.recovery == pytest.approx(truth.recovery, abs=0.02)


BAD = [
    ("Qwen/Qwen3-8B,awq-int9,t,code,80,76", "line 2, lane", "'awq-int9'"),
    ("Qwen/Qwen3-8B,,t,code,80,76", "line 2, lane", "expected a lane"),
    ("Qwen/Qwen3-8B,fp8,t,poetry,80,76", "line 2, task_family", "poetry"),
    ("Qwen/Qwen3-8B,fp8,t,code,80,many", "line 2, quantized", "float"),
    ("Qwen/Qwen3-8B,fp8,t,code,nan,76", "line 2, baseline", "nan"),
    ("Qwen/Qwen3-8B,fp8,t,code,80,inf", "line 2, quantized", "inf"),
    ("Qwen/Qwen3-8B,fp8,t,code,0,76", "line 2, baseline", "above 0"),
    ("Qwen/Qwen3-8B,fp8,t,code,-80,76", "line 2, baseline", "-80"),
    ("Qwen/Qwen3-8B,fp8,t,ppl,8,0", "line 2, quantized", "above 0"),
    ("Qwen/Qwen3-8B,fp8,t,code,0.8,76", "line 2, quantized", "same unit"),
    ("nobody/knows,fp8,t,code,80,76", "line 2, params", "nobody/knows"),
    ("Qwen/Qwen3-8B,fp8,t\x1b[31m,code,80,76", "line 2, task", "control characters"),
    ("Qwen/Qwen3-8B,fp8,t,code,80", "line 2", "expected 6 cells, found 5"),
    ("Qwen/Qwen3-8B,fp8,,code,80,76", "line 2", "task"),
]


@pytest.mark.parametrize(("line", "place", "told"), BAD, ids=[place + told for _, place, told in BAD])
def test_a_bad_row_is_named_with_line_and_column(catalog: Catalog, line: str, place: str, told: str) -> None:
    with pytest.raises(BadInput) as refused:
        read(catalog, line)
    assert refused.value.message.startswith(f"{place}: ")
    assert told in refused.value.message
    assert refused.value.path == "m.csv"


def test_every_bad_row_is_named(catalog: Catalog) -> None:
    with pytest.raises(BadInput) as refused:
        read(catalog, LINE, *(line for line, _, _ in BAD))
    assert [n for n in range(3, 3 + len(BAD)) if f"line {n}" not in refused.value.message] == []
    assert "line 2" not in refused.value.message


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("params", "8 apples", "8B"),
        ("params", 8, "8B"),
        ("context_tokens", "far", "32k"),
        ("context_tokens", 0, "32k"),
        ("stderr", -1, "0 or more"),
        ("higher_is_better", 3, "bool"),
        ("grade", "D", "D"),
        ("training", "none", "none"),
        ("id", "../../x", "regex"),
        ("id", "Q0001", "published"),
        ("own", True, "own"),
        ("method", "MXFP8_W8A8", "no lane of ours"),
        ("method", "GPTQ_INT4", "gptq-int4, not awq-int4"),
        ("colour", "red", "colour"),
        ("task", "x" * 513, "512"),
    ],
)
def test_a_wrong_field_is_refused_with_its_path(catalog: Catalog, field: str, value: object, told: str) -> None:
    for document, place in (({**STATED, field: value}, "$"), ([STATED, {**STATED, field: value}], "$[1]")):
        with pytest.raises(BadInput, match=told) as refused:
            measurement.read_json(json.dumps(document).encode(), catalog)
        assert refused.value.path.startswith(place)
    assert (field in refused.value.path) == (field not in ("own", "colour", "method") or told.startswith("no lane"))


def test_a_ppl_that_grows_better_is_refused(catalog: Catalog) -> None:
    document = {**STATED, "task_family": "ppl", "higher_is_better": True}
    with pytest.raises(BadInput, match="lower perplexity"):
        measurement.read_json(json.dumps(document).encode(), catalog)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "without the columns"),
        (b"\xff\xfe", "UTF-8"),
        (b"model,lane\n", "without the columns task, task_family, baseline, quantized"),
        (MINIMUM.replace("lane,", "").encode(), "without the columns lane"),
        (f"{MINIMUM},model\n".encode(), "stands twice"),
        (f"{MINIMUM},colour\n".encode(), "unknown column 'colour'"),
        (f"{MINIMUM}\n\n\n".encode(), "no measurement"),
        (MINIMUM.replace(",", ";").encode(), "commas"),
        (f'{MINIMUM}\n"Qwen'.encode(), "not a CSV file"),
    ],
)
def test_a_file_that_is_none_is_refused(catalog: Catalog, data: bytes, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        measurement.read_csv(data, "m.csv", catalog)


def test_spreadsheets_write_a_mark_and_carriage_returns(catalog: Catalog) -> None:
    data = b"\xef\xbb\xbf" + table(LINE).replace(b"\n", b"\r\n")
    assert measurement.read_csv(data, "m.csv", catalog) == read(catalog, LINE)


@given(st.one_of(st.binary(max_size=200), st.text(alphabet='ab,;"\n\r\x00é08.', max_size=200).map(str.encode)))
def test_any_bytes_are_rows_or_bad_input(data: bytes) -> None:
    catalog = load_once()
    for attempt in (
        lambda: measurement.read_csv(data, "m.csv", catalog),
        lambda: measurement.read_csv(table() + data, "m.csv", catalog),
        lambda: measurement.read_json(data, catalog),
    ):
        with contextlib.suppress(BadInput):
            assert attempt()


TEXTS = st.text(alphabet="f8p codeé\x00\n-.1", max_size=20)
CELLS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXTS, st.just("fp8"), st.just("ppl"), st.just("8B")
)


@given(
    st.dictionaries(st.sampled_from([*STATED, "params", "method", "id", "stderr", "context_tokens", "recovery"]), CELLS)
)
def test_any_document_is_a_row_or_bad_input(changes: dict[str, Any]) -> None:
    document = msgspec.json.encode([STATED | changes])
    with contextlib.suppress(BadInput):
        (row,) = measurement.read_json(document, load_once())
        assert row.own
        assert row.recovery is None or 0 <= row.recovery <= measurement.MOST


KNOWN: list[Catalog] = []


def load_once() -> Catalog:
    """The catalogue for tests that no fixture reaches."""
    return KNOWN[0] if KNOWN else KNOWN.append(load()) or KNOWN[0]  # type: ignore[func-returns-value]


OTHER = LINE.replace("our tests", "other tests")


def test_adding_and_removing_restores_the_digest(tmp_path: Path, catalog: Catalog) -> None:
    rows = read(catalog, LINE, OTHER)
    added = overlay.add_measurements(tmp_path, rows)
    assert added.added == tuple(row.id for row in rows)
    mine = load(overlay=tmp_path)
    assert (mine.measurements, mine.facts) == (tuple(sorted(rows, key=lambda row: row.id)), catalog.digest)
    assert mine.digest != catalog.digest
    assert (mine.unmeasured.digest, mine.unmeasured.evidence) == (catalog.digest, catalog.evidence)
    assert overlay.remove_measurement(tmp_path, rows[0].id)
    assert load(overlay=tmp_path).digest not in (mine.digest, catalog.digest)
    assert overlay.remove_measurement(tmp_path, rows[1].id)
    assert not overlay.remove_measurement(tmp_path, rows[1].id)
    assert (load(overlay=tmp_path).digest, list(tmp_path.iterdir())) == (catalog.digest, [])


def test_the_digest_does_not_ask_where_or_in_which_order_rows_are_kept(tmp_path: Path, catalog: Catalog) -> None:
    first, second = read(catalog, LINE, OTHER)
    overlay.add_measurements(tmp_path / "both", [first, second])
    overlay.add_measurements(tmp_path / "turned", [second])
    overlay.add_measurements(tmp_path / "turned", [first])
    overlay.add_measurements(tmp_path / "one", [first])
    digests = {
        load(overlay=tmp_path / "both").digest,
        load(overlay=tmp_path / "turned").digest,
        load(overlay=tmp_path / "one").with_measurements([second]).digest,
        load(overlay=tmp_path / "both").with_measurements([second]).digest,
        catalog.with_measurements([second, first]).digest,
    }
    assert len(digests) == 1


def test_a_measurement_is_kept_once_and_an_id_stands_for_one(tmp_path: Path, catalog: Catalog) -> None:
    rows = read(catalog, LINE)
    overlay.add_measurements(tmp_path, rows)
    before = (tmp_path / "evidence.csv").read_bytes()
    named = read(catalog, LINE + ",mine", header=MINIMUM + ",id")
    assert overlay.add_measurements(tmp_path, [*rows, *named]) == measurement.Added(
        added=(), known=(rows[0].id, rows[0].id)
    )
    taken = read(catalog, OTHER + f",{rows[0].id}", header=MINIMUM + ",id")
    with pytest.raises(BadInput, match="other values"):
        overlay.add_measurements(tmp_path, taken)
    with pytest.raises(BadInput, match="two measurements"):
        read(catalog, LINE + ",mine", OTHER + ",mine", header=MINIMUM + ",id")
    assert (tmp_path / "evidence.csv").read_bytes() == before


def test_a_file_cannot_say_whose_its_rows_are(tmp_path: Path, catalog: Catalog) -> None:
    overlay.add_measurements(tmp_path, read(catalog, LINE))
    path = tmp_path / "evidence.csv"
    header, row = path.read_text().splitlines()
    path.write_text(f"{header},own\n{row},0\n")
    with pytest.raises(BadInput, match="no column `own`"):
        load(overlay=tmp_path)


def test_a_correction_of_a_published_row_is_no_measurement_of_ones_own(tmp_path: Path, catalog: Catalog) -> None:
    """It stays where own measurements are left out."""
    mine = msgspec.structs.replace(catalog.evidence[0], quantized=1.0)
    overlay.add(tmp_path, mine)
    for found in (load(overlay=tmp_path), load(overlay=tmp_path).unmeasured):
        assert (found.evidence[0].quantized, found.evidence[0].own) == (1.0, False)
        assert found.evidence[1:] == catalog.evidence[1:]


def test_a_model_read_from_elsewhere_and_measurements_come_in_any_order(catalog: Catalog) -> None:
    model = msgspec.structs.replace(catalog.model("Qwen/Qwen3-8B"), id="mine/tuned")
    rows = read(catalog, LINE)
    one, other = catalog.with_model(model).with_measurements(rows), catalog.with_measurements(rows).with_model(model)
    assert one.digest == other.digest
    assert one.digest not in (catalog.with_model(model).digest, catalog.with_measurements(rows).digest)


@pytest.mark.parametrize(
    ("text", "value"), [("8B", 8e9), ("0.5b", 5e8), ("70e9", 7e10), ("1T", 1e12), (7_600_000_000, 7.6e9)]
)
def test_sizes(text: object, value: float) -> None:
    assert parameters(text) == value


@pytest.mark.parametrize(("text", "value"), [("32k", 32768), ("32768", 32768), (128_000, 128_000), ("1K", 1024)])
def test_contexts(text: object, value: int) -> None:
    assert tokens(text) == value


@pytest.mark.parametrize("text", ["", "B", "8", "-8B", "8 apples", "1e99", "8x7B", "nan", "inf", "0.0001B", "1" * 400])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="8B"):
        parameters(text)


@pytest.mark.parametrize("text", ["", "k", "-1", "0", "1.5", "32m", "1e3", "9" * 12, "nan"])
def test_no_contexts(text: str) -> None:
    with pytest.raises(ValueError, match="32k"):
        tokens(text)
