"""`lanewise fit` with llama.cpp's layers and experts on the host: what is pictured, and what is offered."""

from __future__ import annotations

import pytest

from catalog.errors import BadInput, Unsupported
from planner import decode
from tests.fit.test_headroom import one, seen
from tests.plan.asking import device

EXPERTS, LLAMA = "Qwen/Qwen3-30B-A3B", "meta-llama/Llama-3.1-70B-Instruct"
LANE = {"lane": "gguf:Q4_K_M", "engine": "llama.cpp"}


def test_places_add_up_and_the_fullest_device_is_pictured() -> None:
    found = one(LLAMA, device("l4", 2), **LANE, context=8192, gpu_layers=70, tensor_split=(3.0, 2.0))
    *devices, host = found.places
    assert [each.place for each in found.places] == ["device 0", "device 1", "host"]
    assert sum(each.weight_bytes for each in found.places) == pytest.approx(42.5e9, rel=0.01)
    assert host.cache_bytes > 0
    parts = {part.name: part.bytes.value for part in seen(found).parts}
    assert parts["weights"] == max(each.weight_bytes for each in devices)
    assert (found.flags.gpu_layers, found.flags.tensor_split) == (70, (3.0, 2.0))


def test_experts_on_the_host_leave_the_device_room_for_the_cache() -> None:
    whole = one(EXPERTS, device("rtx4090"), **LANE, context=16384, cpu_experts=0, gpu_layers=49)
    parted = one(EXPERTS, device("rtx4090"), **LANE, context=16384, cpu_experts=48)
    moved = whole.places[0].weight_bytes - parted.places[0].weight_bytes
    assert moved == pytest.approx(parted.places[1].weight_bytes - whole.places[1].weight_bytes, rel=1e-4)
    assert moved > 15e9
    assert seen(parted).longest_context >= seen(whole).longest_context


@pytest.mark.parametrize(("model", "flag"), [(EXPERTS, "--cpu-experts"), (LLAMA, "--gpu-layers")])
def test_what_does_not_fit_is_offered_with_less_on_the_device(model: str, flag: str) -> None:
    found = one(model, device("rtx4080"), **LANE, context=8192)
    assert found.starts is False
    offered = next(change for change in found.changes if change.flags.startswith(flag))
    field, count = flag[2:].replace("-", "_"), int(offered.flags.split()[1])
    assert one(model, device("rtx4080"), **LANE, context=8192, **{field: count}).starts
    more = count - 1 if field == "cpu_experts" else count + 1
    assert not one(model, device("rtx4080"), **LANE, context=8192, **{field: more}).starts


def test_what_cannot_be_split_is_refused_by_name() -> None:
    with pytest.raises(Unsupported, match="experts to keep with the host"):
        one(LLAMA, device("l4"), lane="fp8", gpu_layers=10)
    with pytest.raises(Unsupported, match="cannot be placed one by one"):
        one("microsoft/phi-4", device("l4"), **LANE, gpu_layers=10)


@pytest.mark.parametrize(
    "wrong", ['"gpu_layers": -1', '"cpu_experts": -1', '"tensor_split": []', '"tensor_split": [1, 0]']
)
def test_a_split_that_makes_no_sense_names_its_field(wrong: str) -> None:
    body = f'{{"model": "{LLAMA}", "hardware": {{"accelerators": [{{"id": "l4", "count": 1}}]}}, {wrong}}}'
    with pytest.raises(BadInput) as fault:
        decode.decode_ask(body.encode())
    assert fault.value.path.startswith(f"$.{wrong.split(chr(34))[1]}")
