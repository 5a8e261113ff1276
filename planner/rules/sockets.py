"""H and L rules about vLLM on CPUs: what of its CPU build was read, and when llama.cpp comes before it."""

from __future__ import annotations

from planner.rules.rule import Pairing, Placed, Says, rule

FLAGS = {
    "zen4": "avx512_bf16", "zen5": "avx512_bf16",
    "golden-cove": "amx_tile", "raptor-cove": "amx_tile", "redwood-cove": "amx_tile",
}  # fmt: skip
"""The instruction set that decides which of vLLM's CPU kernels an architecture gets."""


def _on_a_socket(case: Pairing) -> bool:
    return case.engine.id == "vllm" and case.device.accelerator.kind == "cpu"


@rule("H126", "refuse")
def not_read_on_cpus(case: Pairing) -> Says | None:
    """Refuses vLLM on a CPU for models and requests whose way through the CPU build has no formula here.

    Why: latent attention takes a reference implementation there, which turns chunked prefill and prefix caching off;
    states of linear attention are laid out otherwise; drafts and adapters on CPUs were neither read nor measured.
    Source: vllm 0.33 platforms/cpu.py check_and_update_config, get_attn_backend_cls.
    Fires: --model deepseek-ai/DeepSeek-V2-Lite-Chat --on epyc-9654 --qps 0.05 --engines vllm --lanes bf16 --set hardware.accelerators[0].host_ram_gib=256
    Silent: --model Qwen/Qwen3-8B --on epyc-9654 --qps 0.05 --engines vllm --lanes bf16 --set hardware.accelerators[0].host_ram_gib=256
    """
    if not _on_a_socket(case):
        return None
    model, lora = case.model, case.settled.load.lora
    if model.mla is not None:
        because = (
            "latent attention runs through a reference implementation on CPUs, without chunked prefill or prefix cache"
        )
    elif model.linear is not None:
        because = "states of linear attention on CPUs have no formula here"
    elif case.settled.request.speculative is not None:
        because = "speculative decoding on CPUs is not planned: nobody has measured it"
    elif lora is not None and not lora.merged:
        because = "adapters beside the weights are not planned on CPUs: nobody has measured them"
    else:
        return None
    return Says(because=f"vLLM on a CPU: {because}", facts={"model": model.id}, source="vllm 0.33 platforms/cpu.py")


@rule("H127", "refuse")
def another_host_than_was_read(case: Pairing) -> Says | None:
    """Refuses vLLM on a probed host that is not the one socket with the instruction sets that the kernel rows speak of.

    Why: vLLM picks its library and its kernels by the flags that the host shows; virtual machines may hide some. It
    binds a server to the memory node of its first processor, so that a host of two sockets is two machines to it.
    Source: vllm 0.33 platforms/cpu.py import_kernels; v1/worker/cpu_worker.py init_cpu_memory_env.
    Fires: --model Qwen/Qwen3-8B --inventory examples/inventories/epyc-two-sockets.json --qps 0.05 --engines vllm --lanes bf16
    Silent: --model Qwen/Qwen3-8B --inventory examples/inventories/epyc.json --qps 0.05 --engines vllm --lanes bf16
    """
    device = case.device
    if not _on_a_socket(case) or device.machine is None:
        return None
    host, needed = device.machine.host, FLAGS.get(device.accelerator.architecture)
    if (host.sockets or 1) > 1:
        because = (
            f"a server binds to one memory node, and this host has {host.sockets} sockets: name one with its memory"
        )
    elif needed is not None and host.flags and needed not in host.flags:
        because = f"the host does not show {needed}, by which vLLM picks the kernels that were read for {device.accelerator.name}"
    else:
        return None
    return Says(
        because=f"vLLM on a CPU: {because}",
        facts={"sockets": host.sockets, "needs": needed},
        source="vllm 0.33 platforms/cpu.py import_kernels; v1/worker/cpu_worker.py",
    )


@rule("H313", "refuse")
def a_replica_is_one_socket(case: Placed) -> Says | None:
    """Refuses vLLM on CPUs over more than one socket; replicas of one socket each remain.

    Why: vLLM does run tensor parallel over memory nodes, by shared memory. Nobody has measured what the link between
    sockets leaves of it, and no rate of that link is in the catalogue.
    Source: vllm 0.33 distributed/device_communicators/cpu_communicator.py.
    Fires: --model Qwen/Qwen3-8B --on epyc-9654:2 --qps 0.05 --engines vllm --lanes bf16 --set hardware.accelerators[0].host_ram_gib=256
    Silent: --model Qwen/Qwen3-8B --on epyc-9654 --qps 0.05 --engines vllm --lanes bf16 --set hardware.accelerators[0].host_ram_gib=256
    """
    if not _on_a_socket(case.pairing) or case.tensor * case.pipeline * case.data == 1:
        return None
    return Says(
        because="vLLM over several sockets is not planned: one replica on each",
        facts={"tensor_parallel": case.tensor, "pipeline_parallel": case.pipeline},
        source="vllm 0.33 distributed/device_communicators/cpu_communicator.py; no measurement",
    )


@rule("L303", "prefer")
def llama_cpp_before_assumed_speed(case: Pairing) -> Says | None:
    """Prefers llama.cpp to vLLM on a CPU until vLLM was measured there; vLLM is chosen when it is asked for alone.

    Why: no serving measurement of vLLM on a CPU is in the catalogue. Its speed is llama.cpp's share of the bandwidth
    with assumed host times, within a factor of three for tokens and eight for prompts; a choice must not hang on that.
    An observed run or a receipt from the very device lifts the preference.
    Source: speed.csv: no row of vLLM on a CPU.
    Fires: --model Qwen/Qwen3-8B --on epyc-9654 --qps 0.05 --lanes bf16,gguf:Q8_0 --set hardware.accelerators[0].host_ram_gib=256
    Silent: --model Qwen/Qwen3-8B --on epyc-9654 --qps 0.05 --lanes bf16 --engines vllm --set hardware.accelerators[0].host_ram_gib=256
    """
    if not _on_a_socket(case) or case.timed or "llama.cpp" not in case.settled.engines:
        return None
    return Says(
        because="nobody measured vLLM on a CPU for the catalogue: llama.cpp is preferred to assumed numbers",
        source="speed.csv: no row of vLLM on a CPU",
    )
