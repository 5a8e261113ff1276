"""H rules about layouts: heads, groups, nodes, links, slices."""

from __future__ import annotations

from planner.rules.rule import Placed, Says, Shown, rule

GROUPED = ("4-bit integer", "8-bit integer", "8-bit float", "4-bit float")


@rule("H301", "refuse")
def heads_do_not_divide(case: Placed) -> Says | None:
    """Refuses tensor parallel sizes that do not divide the attention heads.

    Why: vLLM stops with an error; every rank needs whole heads.
    Articles: A2: use tensor parallelism when one GPU cannot hold the model, also for AWQ at a quarter of the model's
    size. Heads must divide (A2-104, A2-111, A2-116).
    Source: vllm config/model.py, "Total number of attention heads must be divisible by tensor parallel size".
    Fires: --model Qwen/Qwen2.5-7B-Instruct --on l4:8 --qps 1
    Silent: --model meta-llama/Llama-3.1-8B-Instruct --on l4:8 --qps 1
    """
    heads = case.pairing.model.heads
    if heads % case.tensor == 0:
        return None
    return Says(
        because=f"{heads} attention heads do not divide over {case.tensor} devices",
        facts={"heads": heads, "tensor_parallel": case.tensor},
        source="vllm 0.33 config/model.py",
    )


@rule("H302", "refuse")
def groups_do_not_divide(case: Placed) -> Says | None:
    """Refuses tensor parallel sizes that cut through quantization groups of row-parallel matrices.

    Why: WNA16 kernels need whole groups per rank (K / TP a multiple of the group size).
    Articles: A2's "AWQ with tensor parallelism" needs whole quantization groups on each device (A2-111).
    Source: vllm 0.33 kernels/linear: Marlin and Machete `K_partition % group == 0`.
    Fires: --model Qwen/Qwen2.5-72B-Instruct --on h100-sxm5-80:8 --qps 0.3 --lanes awq-int4
    Silent: --model Qwen/Qwen2.5-72B-Instruct --on h100-sxm5-80:8 --qps 0.3 --lanes fp8
    """
    group, model = case.pairing.method.recipe.group_size, case.pairing.model
    if group is None or case.pairing.lane.family not in GROUPED or case.tensor == 1:
        return None
    dense = model.intermediate if model.moe is None or model.moe.layers < model.layers else None
    expert = model.moe.intermediate if model.moe and not case.expert else None
    shared = model.moe.shared * (model.moe.shared_intermediate or model.moe.intermediate) if model.moe else None
    widths = {"MLP": dense, "expert": expert, "shared expert": shared}
    cut = {name: width for name, width in widths.items() if width and width % (case.tensor * group)}
    if not cut:
        return None
    name, width = next(iter(cut.items()))
    return Says(
        because=f"groups of {group} do not divide the {name} width {width} over {case.tensor} devices",
        facts={"width": width, "group_size": group, "tensor_parallel": case.tensor},
        source="vllm 0.33 kernels/linear: K_partition % group",
    )


@rule("H308", "refuse")
def sizes_do_not_divide(case: Placed) -> Says | None:
    """Refuses tensor parallel sizes that do not divide KV heads, vocabulary or MLP width.

    Why: vLLM stops while it builds the layers. KV heads may also divide the devices: they are repeated then.
    Source: vllm 0.33 layers/linear.py QKVParallelLinear, layers/vocab_parallel_embedding.py (padded to 64): divide().
    Fires: --model microsoft/phi-4 --on h100-sxm5-80:4 --qps 1 --lanes bf16
    Silent: --model meta-llama/Llama-3.1-8B-Instruct --on h100-sxm5-80:4 --qps 1 --lanes bf16
    """
    model, tensor = case.pairing.model, case.tensor
    dense = model.intermediate if model.moe is None or model.moe.layers < model.layers else None
    sizes = {"vocabulary": 64 * -(-model.vocab // 64), "MLP width": dense}
    uneven = {name: size for name, size in sizes.items() if size and size % tensor}
    heads = 1 if model.mla else model.kv_heads
    if heads % tensor and tensor % heads:
        uneven["KV heads"] = heads
    if not uneven:
        return None
    name, size = next(iter(uneven.items()))
    return Says(
        because=f"{name} ({size:,}) does not divide over {tensor} devices",
        facts={"size": size, "tensor_parallel": tensor},
        source="vllm 0.33 distributed/utils.py divide",
    )


@rule("H303", "refuse")
def tensor_parallel_leaves_the_node(case: Placed) -> Says | None:
    """Refuses tensor parallel groups wider than the devices that share a fast link.

    Why: two all-reduces per layer over a network cost more than the devices win; pipeline stages may span nodes.
    Articles: A2 adopts tensor parallelism without a limit; groups wider than the fast link are refused (A2-116).
    Source: vLLM's own advice (tensor parallel within a node, pipeline parallel across).
    Fires: --model Qwen/Qwen3-32B --on a100-sxm4-80:8 --qps 0.3 --set hardware.accelerators[0].per_node=2
    Silent: --model Qwen/Qwen3-32B --on a100-sxm4-80:8 --qps 0.3 --set hardware.accelerators[0].per_node=8
    """
    per_node = case.pairing.device.per_node
    if case.tensor <= per_node:
        return None
    return Says(
        because=f"tensor parallel {case.tensor} is wider than the {per_node} devices of one node",
        facts={"per_node": per_node},
        source="vllm docs: distributed serving",
    )


@rule("H305", "refuse")
def slices_do_not_talk(case: Placed) -> Says | None:
    """Refuses layouts over several MIG slices.

    Why: MIG instances have no peer-to-peer path and NCCL cannot span them: each serves alone.
    Source: NVIDIA MIG user guide, application considerations.
    Fires: --model Qwen/Qwen3-32B --inventory examples/inventories/h100-mig.json --qps 0.1
    Silent: --model Qwen/Qwen3-32B --inventory examples/inventories/a100s.json --qps 0.1
    """
    device = case.pairing.device
    if device.slice is None or case.tensor * case.pipeline * case.data == 1:
        return None
    return Says(
        because=f"MIG slices ({device.slice}) cannot exchange data: one slice per replica",
        facts={"profile": device.slice},
        source="NVIDIA MIG user guide",
    )


@rule("H310", "refuse")
def ranks_leave_the_node(case: Placed) -> Says | None:
    """Refuses data-parallel attention over more devices than share a fast link.

    Why: in every MoE layer all devices gather the tokens of all ranks. Over a network that needs other kernels and
    another link than the one that the estimates count; it is not planned.
    Source: vllm 0.33 config/parallel.py: all2all_backend is allgather_reducescatter unless told otherwise.
    Fires: --model deepseek-ai/DeepSeek-V2-Lite-Chat --on l4:8 --qps 1 --lanes bf16 --set hardware.accelerators[0].per_node=1
    Silent: --model deepseek-ai/DeepSeek-V2-Lite-Chat --on h100-sxm5-80:8 --qps 1 --lanes bf16
    """
    per_node, devices = case.pairing.device.per_node, case.tensor * case.data
    if case.data == 1 or devices <= per_node:
        return None
    return Says(
        because=f"{case.data} ranks of {case.tensor} devices are more than the {per_node} devices of one node",
        facts={"per_node": per_node, "data_parallel": case.data, "tensor_parallel": case.tensor},
        source="vllm 0.33 config/parallel.py all2all_backend",
    )


@rule("H311", "refuse")
def experts_do_not_divide(case: Placed) -> Says | None:
    """Refuses data-parallel attention over a number of devices that does not divide the experts.

    Why: vLLM then gives some devices one expert more, and every step waits for those; the estimates count equal shares.
    Source: vllm 0.33 layers/fused_moe/expert_map_manager.py determine_expert_map.
    Fires: --model mistralai/Mixtral-8x7B-Instruct-v0.1 --on h100-sxm5-80:16 --qps 1 --set hardware.accelerators[0].per_node=16
    Silent: --model deepseek-ai/DeepSeek-V2-Lite-Chat --on h100-sxm5-80:8 --qps 1 --lanes bf16
    """
    moe, devices = case.pairing.model.moe, case.tensor * case.data
    if case.data == 1 or moe is None or moe.experts % devices == 0:
        return None
    return Says(
        because=f"{moe.experts} experts do not divide over {devices} devices ({case.data} ranks of {case.tensor})",
        facts={"experts": moe.experts, "data_parallel": case.data, "tensor_parallel": case.tensor},
        source="vllm 0.33 layers/fused_moe/expert_map_manager.py",
    )


@rule("H306", "note")
def key_value_heads_are_repeated(case: Shown) -> Says | None:
    """Notes tensor parallel groups wider than the KV heads: devices then hold copies of the same cache.

    Why: the cache stops shrinking per device, so wider groups buy less room than they cost.
    Articles: A2 adopts tensor parallelism without saying that KV heads are repeated beyond their number (A2-104).
    Source: vllm 0.33 config/model.py get_num_kv_heads: max(1, kv_heads // TP).
    Fires: --model Qwen/Qwen3-30B-A3B --on a10g:8 --qps 0.5 --set hardware.accelerators[0].per_node=8 --objective latency
    Silent: --model Qwen/Qwen3-30B-A3B --on h100-sxm5-80:1 --qps 0.5
    """
    model = case.pairing.model
    if model.mla is not None or case.tensor <= model.kv_heads:
        return None
    return Says(
        because=f"{case.tensor} devices share {model.kv_heads} KV heads: each cache line is held {case.tensor / model.kv_heads:.0f} times",
        facts={"kv_heads": model.kv_heads, "tensor_parallel": case.tensor},
        source="vllm 0.33 config/model.py",
    )


@rule("H307", "warn")
def tensor_parallel_over_pcie(case: Shown) -> Says | None:
    """Warns of tensor parallel over PCIe: two exchanges per layer go through the host.

    Why: a 4090 has neither NVLink nor peer-to-peer access; the estimates count a slower link, few measurements hold them.
    Articles: A2 adopts tensor parallelism without asking for NVLink (A2-104).
    Source: catalogue links; the probe's topology.
    Fires: --model Qwen/Qwen3-14B --inventory examples/inventories/4090s.json --qps 0.2 --lanes bf16
    Silent: --model Qwen/Qwen3-32B --inventory examples/inventories/a100s.json --qps 0.2 --lanes bf16
    """
    device = case.pairing.device.accelerator
    if case.tensor == 1 or device.link is not None or device.vendor != "nvidia":
        return None
    return Says(
        because=f"tensor parallel {case.tensor} without NVLink: every layer's exchange crosses PCIe",
        facts={"tensor_parallel": case.tensor},
        source=device.source,
    )
