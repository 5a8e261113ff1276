"""The loader: strict, with the place of every fault; one dropped file is enough; an overlay replaces by id."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import msgspec
import pytest

from catalog.accelerator import Accelerator
from catalog.errors import BadInput, UnknownModel
from catalog.evidence import Evidence
from catalog.load import DATA, Catalog, load
from catalog.model import Model
from catalog.overlay import add
from catalog.price import Offer
from catalog.source import Fact
from catalog.units import Bytes, BytesPerSecond, FlopPerSecond

GPU = """
[[accelerator]]
id = "rtx9090"
name = "GeForce RTX 9090"
vendor = "nvidia"
kind = "gpu"
architecture = "blackwell"
compute_capability = "12.0"
memory = "48 GiB"
bandwidth = "2.5 TB/s"
bf16 = "300 TFLOP/s"
source = "a test"
confidence = "B"
"""


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A copy of the packaged data that a test may spoil."""
    return Path(shutil.copytree(DATA, tmp_path / "data", ignore=shutil.ignore_patterns("truth")))


def drop(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def test_loads_everything_in_time() -> None:
    load()
    start = time.perf_counter()
    catalog = load()
    elapsed = time.perf_counter() - start
    assert len(catalog.accelerators) >= 86
    assert len(catalog.models) >= 125
    assert len(catalog.evidence) >= 1335
    assert elapsed < 0.5  # about 0.06 s on two cores; the bound only catches a change of order


def test_same_bytes_same_digest(data: Path, catalog: Catalog) -> None:
    assert load(data).digest == catalog.digest


def test_any_changed_byte_changes_the_digest(data: Path, catalog: Catalog) -> None:
    prices = data / "prices.csv"
    prices.write_text(prices.read_text(encoding="utf-8").replace("55.04", "55.05", 1), encoding="utf-8")
    assert load(data).digest != catalog.digest


def test_truth_files_are_not_part_of_the_catalogue(data: Path, catalog: Catalog) -> None:
    drop(data, "truth/mine.csv", "id\n1\n")
    assert load(data).digest == catalog.digest


def test_a_new_gpu_is_one_file(tmp_path: Path, catalog: Catalog) -> None:
    drop(tmp_path, "accelerators/mine.toml", GPU)
    found = load(overlay=tmp_path).accelerator("rtx9090")
    assert found.memory == 48 * 2**30
    assert found.bandwidth == 2.5e12
    assert found.peak("bf16") == 300e12
    assert "rtx9090" not in catalog.accelerators


def test_an_overlay_entry_replaces_ours_and_counts_in_the_digest(tmp_path: Path, catalog: Catalog) -> None:
    drop(tmp_path, "accelerators/mine.toml", GPU.replace("rtx9090", "rtx4090"))
    mine = load(overlay=tmp_path)
    assert mine.accelerator("rtx4090").name == "GeForce RTX 9090"
    assert len(mine.accelerators) == len(catalog.accelerators)
    assert mine.digest != catalog.digest


def test_an_overlay_that_does_not_exist_yet_is_empty(tmp_path: Path, catalog: Catalog) -> None:
    assert load(overlay=tmp_path / "later").digest == catalog.digest


def test_the_newest_date_is_the_only_now(tmp_path: Path, catalog: Catalog) -> None:
    dated = [offer.as_of for offer in catalog.offers if offer.as_of]
    assert catalog.as_of == max(dated)
    offer = msgspec.structs.replace(catalog.offers[0], instance="mine", as_of="2030-01-01")
    add(tmp_path, offer)
    assert load(overlay=tmp_path).as_of == "2030-01-01"


@pytest.mark.parametrize(
    ("spoil", "message", "place"),
    [
        (("memory = ", "memroy = "), "unknown field `memroy`", "rtx9090"),
        (("2.5 TB/s", "2500"), "expected a number with one of the units GB/s", "rtx9090.bandwidth"),
        (("300 TFLOP/s", "300 TOPS"), "TFLOP/s", "rtx9090.bf16"),
        (('vendor = "nvidia"', 'vendor = "voodoo"'), "Invalid enum value", "rtx9090.vendor"),
        (('id = "rtx9090"', "# no id"), "missing required field `id`", "entry 1"),
        (("[[accelerator]]", "[[gpu]]"), "expected [[accelerator]] tables", "mine.toml"),
        (("[[accelerator]]", "[[accelerator"), "not TOML", "mine.toml"),
        (('source = "a test"', ""), "missing required field `source`", "rtx9090"),
    ],
)
def test_a_fault_names_file_entry_and_field(tmp_path: Path, spoil: tuple[str, str], message: str, place: str) -> None:
    drop(tmp_path, "accelerators/mine.toml", GPU.replace(*spoil))
    with pytest.raises(BadInput) as caught:
        load(overlay=tmp_path)
    assert message in caught.value.message
    assert "accelerators/mine.toml" in caught.value.path
    assert place in caught.value.path


def test_a_fault_in_a_table_names_its_line(data: Path) -> None:
    prices = data / "prices.csv"
    lines = prices.read_text(encoding="utf-8").splitlines()
    lines[3] = lines[3].replace("on_demand", "sometimes").replace("spot", "sometimes")
    prices.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(BadInput, match=r"prices\.csv: line 4\.market"):
        load(data)


def test_a_line_of_another_length_is_refused(data: Path) -> None:
    with (data / "artifacts.csv").open("a", encoding="utf-8") as table:
        table.write("one,two\n")
    with pytest.raises(BadInput, match="expected 10 cells, found 2"):
        load(data)


def test_an_unmapped_spelling_is_refused(data: Path) -> None:
    evidence = data / "evidence.csv"
    evidence.write_text(
        evidence.read_text(encoding="utf-8").replace(",AWQ_INT4,", ",MYSTERY_INT4,", 1), encoding="utf-8"
    )
    with pytest.raises(BadInput, match="'MYSTERY_INT4' is no known spelling of a lane in evidence"):
        load(data)


def test_a_file_that_nothing_reads_is_refused(tmp_path: Path) -> None:
    drop(tmp_path, "gpus/mine.toml", GPU)
    with pytest.raises(BadInput, match="nothing reads this file"):
        load(overlay=tmp_path)


def test_ids_stand_once(data: Path) -> None:
    drop(data, "accelerators/again.toml", GPU.replace("rtx9090", "rtx4090"))
    with pytest.raises(BadInput, match="duplicate entry 'rtx4090'"):
        load(data)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such catalogue folder"):
        load(tmp_path / "nowhere")


def test_unknown_names_come_with_the_nearest_ones(catalog: Catalog) -> None:
    with pytest.raises(BadInput, match="h100-sxm5-80"):
        catalog.accelerator("h100")
    with pytest.raises(UnknownModel, match=r"Qwen/Qwen3-8B"):
        catalog.model("qwen/qwen3-8b")


def test_artifacts_and_offers_are_found_by_what_they_serve(catalog: Catalog) -> None:
    assert {row.base for row in catalog.artifacts_by_base["Qwen/Qwen3-8B"]} == {"Qwen/Qwen3-8B"}
    assert sum(map(len, catalog.artifacts_by_base.values())) == len(catalog.artifacts)
    assert {row.accelerator for row in catalog.offers_by_accelerator["a10g"]} == {"a10g"}


def test_doubts_name_the_field_and_its_source(catalog: Catalog) -> None:
    doubts = {(doubt.kind, doubt.id, doubt.field): doubt for doubt in catalog.doubts()}
    assert "RECALL" in doubts["accelerator", "h100-nvl-94", "bf16"].source
    assert ("accelerator", "h100-nvl-94", "memory") not in doubts
    assert doubts["accelerator", "b100", "*"].source == catalog.accelerator("b100").source
    assert all(doubt.source for doubt in doubts.values())


def accelerator() -> Accelerator:
    return Accelerator(
        id="mine/rtx 9090",
        name='GeForce "RTX" 9090\u007f\u2122',
        vendor="nvidia",
        kind="gpu",
        architecture="blackwell",
        memory=Bytes(48 * 2**30),
        reported_memory=Bytes(50_123_456_789),
        bandwidth=BytesPerSecond(1.7923e12),
        bf16=FlopPerSecond(209.5e12),
        native=("bf16", "fp8"),
        source="measured by hand",
        confidence="B",
        facts={"bf16": Fact(source="a sheet", confidence="C")},
    )


def test_an_accelerator_survives_writing_and_reading(tmp_path: Path) -> None:
    written = accelerator()
    path = add(tmp_path, written)
    assert path == tmp_path / "accelerators" / "mine--rtx 9090.toml"
    assert load(overlay=tmp_path).accelerator("mine/rtx 9090") == written


@pytest.mark.parametrize(
    "key", ["deepseek-ai/DeepSeek-R1", "google/gemma-3-27b-it", "openai/gpt-oss-20b", "Qwen/Qwen3-8B"]
)
def test_a_model_survives_writing_and_reading(tmp_path: Path, catalog: Catalog, key: str) -> None:
    mine: Model = msgspec.structs.replace(catalog.model(key), id=f"me/{key.partition('/')[2]}", inherited=key)
    add(tmp_path, mine)
    assert load(overlay=tmp_path).model(mine.id) == mine


def test_table_rows_are_added_and_replaced(tmp_path: Path, catalog: Catalog) -> None:
    offer: Offer = msgspec.structs.replace(catalog.offers[0], provider="mine", notes='a "quoted", note')
    add(tmp_path, offer)
    add(tmp_path, msgspec.structs.replace(offer, instance="other"))
    add(tmp_path, msgspec.structs.replace(offer, usd_per_hour=1.25))
    mine = [row for row in load(overlay=tmp_path).offers if row.provider == "mine"]
    assert [row.usd_per_hour for row in mine] == [1.25, offer.usd_per_hour]
    assert mine[0].notes == offer.notes


def test_an_evidence_row_survives_writing_and_reading(tmp_path: Path, catalog: Catalog) -> None:
    mine: Evidence = msgspec.structs.replace(catalog.evidence[0], id="mine-1", grade="B", quantized=80.5)
    add(tmp_path, mine)
    read = msgspec.structs.replace(mine, own=True, recovery=round(100 * 80.5 / mine.baseline, 2))
    assert [row for row in load(overlay=tmp_path).evidence if row.id == "mine-1"] == [read]


def test_an_entry_that_does_not_load_leaves_the_folder_as_it_was(tmp_path: Path, catalog: Catalog) -> None:
    good = msgspec.structs.replace(catalog.evidence[0], id="mine-1")
    path = add(tmp_path, good)
    before = path.read_bytes()
    with pytest.raises(BadInput):
        add(tmp_path, msgspec.structs.replace(good, id="mine-2", method="MYSTERY", grade="Z"))
    assert path.read_bytes() == before


@pytest.mark.parametrize("key", ["../../etc/passwd", "/etc/passwd", "..", "a\\b", "con:aux", "ü/é"])
def test_no_id_leads_out_of_the_folder(tmp_path: Path, key: str) -> None:
    written = msgspec.structs.replace(accelerator(), id=key)
    path = add(tmp_path / "overlay", written)
    assert path.resolve().parent == (tmp_path / "overlay" / "accelerators").resolve()
    assert load(overlay=tmp_path / "overlay").accelerator(key) == written
