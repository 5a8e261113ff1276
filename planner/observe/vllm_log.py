"""Start-up logs of vLLM, 0.5 to 0.33: a line of this table per wording.

vLLM divides by 2^30 wherever it prints GB or GiB (0.5.4 worker/model_runner.py: `model_memory_usage / float(2**30)`
under "GB", corrected to GiB in 0.8; 0.32 utils/mem_utils.py: format_gib), so both are read as GiB. Wordings since 0.9
are those of 0.32's gpu_worker.py, gpu_model_runner.py, cpu_worker.py and kv_cache_utils.py; older ones were seen in the
published logs of tests/observe/published.toml.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

from planner.observe.reading import Chosen, Reading, Seen, Unknown, latest, lines_of

N = r"(-?[\d,]*\.?\d+)"
G = r" ?Gi?B"


def _line(text: str) -> re.Pattern[str]:
    """A wording in which `{metric}` stands for a number, and `~` for GB or GiB."""
    escaped = re.escape(text).replace(r"\~", G)
    return re.compile(re.sub(r"\\\{(\w+)\\\}", lambda found: f"(?P<{found[1]}>{N[1:-1]})", escaped))


WORDINGS = tuple(map(_line, (
    "Loading model weights took {weights_gib}~",
    "Model loading took {weights_gib}~ and {load_s} seconds",
    "Model loading took {weights_gib}~ memory and {load_s} seconds",
    "Loading weights took {read_s} seconds",
    "Initializing model took {model_init_s} seconds",
    "Checkpoint size: {checkpoint_gib}~. Available RAM: {host_free_gib}~",
    "Memory profiling takes {profile_s} seconds",
    "Memory profiling results: duration={profile_s} seconds, total_gpu_memory={device_gib}~, "
    "initial_memory_usage={initial_gib}~, peak_torch_memory={torch_peak_gib}~, "
    "memory_usage_post_profile={after_profile_gib}~, non_torch_memory={non_torch_gib}~, kv_cache_size={kv_cache_gib}~",
    "total_gpu_memory ({device_gib}~) x gpu_memory_utilization ({share}) = {claimed_gib}~",
    "model weights take {weights_gib}~; non_torch_memory takes {non_torch_gib}~; PyTorch activation peak memory takes "
    "{activation_peak_gib}~; the rest of the memory reserved for KV Cache is {kv_cache_gib}~",
    "Total non KV cache memory: {beside_cache_gib}~; torch peak memory increase: {activation_peak_gib}~; non-torch "
    "forward increase memory: {non_torch_gib}~; weights memory: {weights_gib}~",
    "# GPU blocks: {blocks_count}",
    "# CUDA blocks: {blocks_count}",
    "# cuda blocks: {blocks_count}",
    "# CPU blocks: {host_blocks_count}",
    "GPU KV cache size: {kv_cache_tokens} tokens",
    "CPU KV cache size: {kv_cache_tokens} tokens",
    "Maximum concurrency for {context_tokens} tokens per request: {max_concurrency}x",
    "Available KV cache memory: {kv_cache_gib}~",
    "Explicitly set ({kv_cache_gib}/{host_gib})~ for KV cache",
    "Graph capturing finished in {graphs_s} secs, took {cuda_graph_gib}~",
    "Graph capturing finished in {graphs_s} secs",
    "CUDA graph pool memory: {cuda_graph_gib}~ (actual), {cuda_graph_estimate_gib}~ (estimated)",
    "Estimated CUDA graph memory: {cuda_graph_estimate_gib}~ total",
    "Free memory on device ({device_free_gib}/{device_gib}~) on startup",
    "Desired GPU memory utilization is ({share}, {claimed_gib}~)",
    "Actual usage is {weights_gib}~ for weight, {activation_peak_gib}~ for peak activation, {non_torch_gib}~ for "
    "non-torch memory, and {cuda_graph_gib}~ for CUDAGraph memory",
    "Actual usage is {weights_and_non_torch_gib}~ for consumed memory (weights + non-torch), {activation_peak_gib}~ "
    "for peak activation, and {cuda_graph_gib}~ for CUDAGraph memory",
    "Dynamo bytecode transform time: {dynamo_s} s",
    "torch.compile takes {compile_s} s in total",
    "torch.compile took {compile_s} s in total",
    "Initial profiling/warmup run took {warmup_s} s",
    "init engine (profile, create kv cache, warmup model) took {engine_init_s} s",
    "Encoder cache will be initialized with a budget of {encoder_tokens} tokens",
    "Chunked prefill is enabled with max_num_batched_tokens={batched_tokens}",
    "Using max model len {context_tokens}",
    "max_model_len={context_tokens}",
)))  # fmt: skip
"""Of alternatives that begin alike the first that matches a place is read; none is read twice."""
SETTINGS = (
    "model", "dtype", "quantization", "kv_cache_dtype", "max_model_len", "max_seq_len", "max_num_seqs",
    "max_num_batched_tokens", "gpu_memory_utilization", "tensor_parallel_size", "pipeline_parallel_size",
    "data_parallel_size", "enforce_eager", "block_size", "speculative_config", "enable_prefix_caching",
)  # fmt: skip
STATED = re.compile(r"non-default args|args: Namespace\(|with config|with engine_args|engine config")
CHOICES: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "attention",
        re.compile(r"Using (?:AttentionBackendEnum\.)?([A-Za-z][\w ]{2,40}?)(?: attention)? backend\b(?! for)"),
    ),
    ("attention", re.compile(r"Using (FlashAttention version \d)")),
    ("kernel", re.compile(r"(?:Using|Selected) (\w+Kernel for \w+)")),
    ("experts", re.compile(r"Using '?([\w ]+?)'? (?:\w+ )?MoE backend")),
    ("conversion", re.compile(r"The model is convertible to (\w+) during runtime")),
)
VERSIONS = (
    re.compile(r"Initializing an? (?:V\d )?(?:LLM )?(?:LLM )?engine \(v(?P<version>[^)\s]+)\)"),
    re.compile(r"vLLM API server version (?P<version>\S+)"),
    re.compile(r"\bversion (?P<version>\d+\.\d+\.\d+\S*)\s*$"),
)
RANK = re.compile(r"\((?:Ray|Vllm)?Worker(?:Process|Wrapper)?[_ -]?(?:(?P<rank>[A-Z]\w*?) )?(?:pid=(?P<pid>\d+))?")
TIMED = re.compile(r"\b(?:INFO|WARNING|DEBUG) (\d\d-\d\d \d\d:\d\d:\d\d)\b")
READY = re.compile(r"Starting vLLM (?:API )?server|Application startup complete|Uvicorn running")
MEASURE = re.compile(
    r"\d ?[GM]i?B\b|KV cache size|blocks?: \d|concurrency|\btook -?[\d.]+ ?s|\btakes? -?[\d.]+ ?s", re.IGNORECASE
)
PASSED = re.compile(
    r"Completed \||it/s\]|throughput:|CUDA graphs can take additional|graph memory profiling (?:is|will be) enabled"
    r"|Found ulimit|waste at most|Capturing CUDA graph|consider (?:de|in)creasing|from the cache|graph for"
    r"|Memory profiling results:$"
)
"""Lines with numbers that are no measurement of this start: progress, advice, a running server's averages."""
ENGINE = re.compile(
    r"vllm|\[(?:gpu_)?(?:worker|model_runner|core|kv_cache_utils)\.py|(?:model_runner|llm_engine|worker)\.py:\d+\]",
    re.IGNORECASE,
)


def claims(text: str) -> bool:
    """Whether the text is a log of vLLM."""
    return ENGINE.search(text) is not None and any(_matches(line) for _, line in lines_of(text))


def read(text: str, source: str) -> Reading:
    """Every known wording; lines with a size or a time in an unknown one are reported."""
    numbers: list[Seen] = []
    chosen: dict[tuple[str, str], Chosen] = {}
    unknown: list[Unknown] = []
    settings: dict[str, str] = {}
    version, times = "", [("", "")]
    for number, line in lines_of(text):
        place, found = f"line {number}", list(_seen(line, f"line {number}"))
        numbers += found
        settings |= _settings(line) if STATED.search(line) else {}
        version = next((match["version"] for one in VERSIONS if (match := one.search(line))), version)
        picked = [
            Chosen(what=what, name=match[1].strip(), place=place)
            for what, one in CHOICES
            for match in one.finditer(line)
        ]
        chosen = {(each.what, each.name): each for each in picked} | chosen
        if (clock := TIMED.search(line)) is not None:
            times.append((clock[1], "ready" if READY.search(line) else ""))
        if not (found or picked) and MEASURE.search(line) and not PASSED.search(line) and not STATED.search(line):
            unknown.append(Unknown(place=place, text=_bare(line)))
    return Reading(
        source=source, format="vLLM start-up log", engine="vllm", version=version, settings=settings,
        numbers=latest([*numbers, *_ready(times[1:])]), chosen=tuple(chosen.values()), unknown=tuple(unknown),
    )  # fmt: skip


def _matches(line: str) -> list[re.Match[str]]:
    """Wordings in one line, the longest of those that overlap, from left to right."""
    found = [match for one in WORDINGS for match in one.finditer(line)]
    kept: list[re.Match[str]] = []
    for match in sorted(found, key=lambda each: each.start() - each.end()):
        if all(match.end() <= other.start() or other.end() <= match.start() for other in kept):
            kept.append(match)
    return sorted(kept, key=lambda each: each.start())


def _seen(line: str, place: str) -> Iterator[Seen]:
    for match in _matches(line):
        for metric, value in match.groupdict().items():
            yield Seen(metric=metric, value=float(value.replace(",", "")), place=place, of=_rank(line))


def _rank(line: str) -> str:
    """`TP1`; a worker that is known by its process alone, by that. Empty for a single worker."""
    found = RANK.search(line)
    if found is None:
        return ""
    return found["rank"] or (f"pid {found['pid']}" if found["pid"] and "VllmWorkerProcess" in line else "")


def _settings(line: str) -> dict[str, str]:
    """Values of a configuration that is printed as `name=value` or as a dictionary."""
    found = {}
    for name in SETTINGS:
        match = re.search(rf"['\"]?\b{name}['\"]?\s*[=:]\s*(?:'([^']*)'|\"([^\"]*)\"|([\w./:-]+))", line)
        value = next((group for group in match.groups() if group is not None), "") if match else ""
        if value and (value != "None" or name == "quantization"):
            found[name] = value.removeprefix("torch.")
    return found


def _ready(times: list[tuple[str, str]]) -> Iterator[Seen]:
    """Seconds from the first line with a time to the server's; a log over New Year has none."""
    ends = [clock for clock, what in times if what]
    if not ends:
        return
    first, last = (datetime.strptime(f"2024-{clock}", "%Y-%m-%d %H:%M:%S") for clock in (times[0][0], ends[-1]))
    if last >= first:
        yield Seen(metric="ready_s", value=(last - first).total_seconds(), place="first line to the server's start")


def _bare(line: str) -> str:
    """The message without process, time and file."""
    return re.sub(r"^(?:\([^)]*\)\s*)*(?:\w+ \d\d-\d\d \d\d:\d\d:\d\d )?(?:\[?[\w.]+:\d+\]\s*)?", "", line).strip()
