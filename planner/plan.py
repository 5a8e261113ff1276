"""The nouns of the answer: findings, estimates, candidates, the plan."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

Effect = Literal["refuse", "warn", "prefer", "note"]
Basis = Literal["measured", "fitted", "published", "assumed", "overridden"]


class Finding(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a rule found: `because` is one sentence for people, `facts` the values it looked at."""

    rule: str
    effect: Effect
    because: str
    facts: dict[str, Any] = {}
    source: str = ""


class Estimate(Struct, frozen=True, kw_only=True):
    """A number with its 80 % interval; `unit` repeats what the field's name says."""

    value: float
    low: float
    high: float
    basis: Basis
    unit: str


class Step(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a derivation."""

    name: str
    value: float
    unit: str
    formula: str | None = None
    why: str | None = None
    source: str | None = None


class Assumption(Struct, frozen=True, kw_only=True):
    """A default that was used; `path` is the request field that would replace it."""

    path: str
    value: Any
    because: str


class Recipe(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a lane is made: algorithm, symmetry, group and training decide quality and kernel, not the lane's name."""

    name: str
    algorithm: str
    training: Literal["ptq", "qat", "qad", "native"] = "ptq"
    symmetric: bool | None = None
    group_size: int | None = None
    online: bool = False
    """Quantized by the engine while it loads the 16-bit original: nothing to make."""


class ArtifactRef(Struct, frozen=True, kw_only=True):
    """The published checkpoint to download."""

    repo: str
    revision: str | None
    publisher: str
    license: str
    gated: bool | None
    checked: str | None
    format: str
    source: str


class Calibration(Struct, frozen=True, kw_only=True):
    """Text that a recipe is calibrated on: of the workload's own kind, never what it is evaluated on."""

    domains: dict[str, float]
    """Share per task family."""
    languages: dict[str, float]
    chat_format: bool
    """Through the model's chat template."""
    samples: int
    sequence_length: int
    """Tokens."""
    public: tuple[str, ...]
    """Data sets to take where one has no text of one's own."""


class Make(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What has to be done when nothing published fits."""

    tool: str
    scheme: str
    because: str
    algorithm: str = ""
    symmetric: bool | None = None
    group_size: int | None = None
    ignore: tuple[str, ...] = ()
    """Layers that stay 16-bit, as llm-compressor names them."""
    calibration: Calibration | None = None
    imatrix: bool = False
    host_ram_bytes: float = 0.0
    """The 16-bit weights, which stay in host memory while layers are quantized one by one."""


class Settings(Struct, frozen=True, kw_only=True):
    """The numbers that the launch files carry."""

    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    gpu_memory_utilization: float
    speculative: str | None = None
    max_loras: int | None = None
    """Adapters that are loaded at once beside the weights; None without any."""
    max_lora_rank: int | None = None
    kv_cache_gib: int | UnsetType = UNSET
    """Size of the cache, where an engine is told it rather than given what is left (vLLM on a CPU)."""
    devices: tuple[str, ...] = ()
    """Probed devices that have this memory free, by index or MIG UUID; empty without a probe."""


class Pool(Struct, frozen=True, kw_only=True):
    """Equal devices doing one role. `count` = replicas x tensor x pipeline x data parallel devices."""

    role: Literal["serve"]
    accelerator: str
    count: int
    replicas: int
    tensor_parallel: int
    pipeline_parallel: int
    data_parallel: int
    expert_parallel: int
    settings: Settings


class Percentiles(Struct, frozen=True, kw_only=True):
    """Of single requests, in seconds; `p95_error` is one standard error of p95, from ten parts of the run."""

    p50: float
    p90: float
    p95: float
    p99: float
    p95_error: float


class Simulated(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an event simulation of one replica at its planned load came to, after a warm-up."""

    requests: int
    """Measured; as many as `warm_up` went before."""
    warm_up: int
    seed: int
    ttft_s: Percentiles
    tpot_s: Percentiles
    e2e_s: Percentiles
    queue_wait_s: Percentiles
    utilisation: float
    """Share of the time in which a step was under way."""
    requests_per_s: float
    running_sequences: float
    preemptions: int
    makespan_s: float | None = None
    """Batch jobs: from the first request to the last answer."""
    replaces: dict[str, float] = {}
    """Estimates that are the simulation's, where it and the formulas do not agree, and what the formulas say."""


class Evidenced(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an expected loss rests on."""

    likely_pct: float
    """The loss stays below it three times of four: tolerances are judged by it, or by `high` under confidence."""
    sources: int = 0
    """That measured formats like this on models of this size for this family; fewer than two: verify."""
    citations: tuple[str, ...] = ()
    """Some of those who measured, or the word `assumed`."""
    proxy: str | None = None
    """The family whose measurements stand in."""
    own_share: float = 0.0
    """Of what was unknown, how much the user's own measurements settle."""


NOTHING = Estimate(value=0.0, low=0.0, high=0.0, basis="published", unit="s")
"""No time at all."""


class Threshold(Struct, frozen=True, kw_only=True):
    """What one statistic of a gate has to keep. The one-sided 95 % bound that is compared decides a pass; a gate fails
    where both bounds break it, and is inconclusive in between."""

    statistic: str
    unit: str
    bound: Literal["upper", "lower", "value"]
    relation: Literal["<=", ">="]
    value: float
    because: str
    """Why it stands where it does."""
    source: str
    """Begins with `assumed` where it is a guess."""


class Text(Struct, frozen=True, kw_only=True):
    """Text that token statistics are taken on, in windows of the gate's context."""

    name: str
    windows: int


class Trial(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A benchmark as the proof of one task family."""

    name: str
    items: int | None = None
    """None: the user's own."""
    samples: int
    """Paired answers that resolve the threshold with the stated power."""
    repeats: int | None = None
    """Answers to each item; None where the items are the user's own."""
    answers: int
    """That are run."""
    conclusive: bool
    """False: it cannot resolve the threshold, whatever comes out."""
    because: str
    source: str


class Gate(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One comparison that helps to settle whether quality holds."""

    id: str
    """smoke, kld_mean, kld_p99, top1_agreement, ppl_ratio, dp_asymmetry, cache_kld_mean, task:FAMILY, long_context,
    flip_rate, structured_output."""
    compares: tuple[str, str] = ("candidate", "baseline")
    """On the same token ids or prompts."""
    decides: bool = False
    """False: it screens, and where it and the tasks disagree, the tasks decide."""
    context_tokens: int | None = None
    """Length of the windows; None where prompts are as long as they are."""
    texts: tuple[Text, ...] = ()
    thresholds: tuple[Threshold, ...]
    tolerance_pct: float
    tolerance_class: str
    share: float | None = None
    """Of the mix."""
    benchmarks: tuple[Trial, ...] = ()
    """The first is run."""
    samples: int
    samples_of: Literal["prompts", "tokens", "answers"]
    tool: str
    shares: str = ""
    """The gate whose run gives its numbers: `kld_mean@512`, `task:*`."""
    expected_s: Estimate = NOTHING
    """Of candidate and baseline; nothing where another gate's run gives the numbers."""
    total_s: float = 0.0
    """With all gates before it."""
    because: str


class Verification(Struct, frozen=True, kw_only=True):
    """What would settle whether quality holds, the cheapest decisive gate first."""

    baseline: str
    excluded: tuple[str, ...]
    """Text that no gate may see."""
    confidence: float
    """Of every bound, one-sided."""
    power: float
    """Of every sample size, against no true difference or what the gate says."""
    discordant_share: float
    """Of paired answers, on which sample sizes rest."""
    discordant_source: str
    verdicts: dict[str, str]
    """What makes pass, fail and inconclusive."""
    expected_s: Estimate
    """Of all gates, candidate and baseline, on one replica of the planned layout."""
    gates: tuple[Gate, ...]


class Candidate(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One way to serve the request."""

    lane: str
    recipe: Recipe
    kernel: str
    kernels: dict[str, str] = {}
    """Kernel per kind of layer: attention, linear attention, mlp, experts, head."""
    artifact: ArtifactRef | None = None
    make: Make | None = None
    engine: str
    engine_version: str
    image: str = ""
    """Published image of this version that has code for the device and starts with the probed driver."""
    kv_cache_dtype: str
    pools: tuple[Pool, ...]
    estimates: dict[str, Estimate]
    quality: dict[str, Estimate] = {}
    """Expected loss in percent per task family of the mix."""
    evidence: dict[str, Evidenced] = {}
    """What those losses rest on."""
    findings: tuple[Finding, ...] = ()
    offer: dict[str, Any] | UnsetType = UNSET
    simulated: Simulated | None = None
    verification: Verification | None = None
    """None where nothing is lost, so that there is nothing to prove."""


class Refused(Struct, frozen=True, kw_only=True):
    """A family of candidates that left, with the finding that sent it away."""

    lane: str
    engine: str
    accelerator: str
    candidates: int
    finding: Finding


class WayOut(Struct, frozen=True, kw_only=True):
    """One change that would make the request feasible, and what it costs."""

    change: str
    then: str
    price_usd_per_month_delta: float | None
    quality_delta_pct: float | None


class LaunchFile(Struct, frozen=True, kw_only=True):
    """A file to write: `target` is the folder of templates it came from."""

    target: str
    name: str
    executable: bool = False


class Tie(Struct, frozen=True, kw_only=True):
    """One candidate within the tie margin and its place in every tie-breaker, in order."""

    lane: str
    engine: str
    accelerator: str
    objective: float | None
    slo_met_at_bad_end: bool
    loss_pct: float
    published: bool
    recorded: bool = True
    """By the model's owner, or by a publisher with measured checkpoints."""
    headroom: float
    devices: int


class Plan(Struct, frozen=True, kw_only=True):
    """The answer. The same request, catalogue and inventory give the same bytes."""

    schema: int
    id: str
    request: dict[str, Any]
    feasible: bool
    choice: Candidate | None
    alternatives: tuple[Candidate, ...]
    refused: tuple[Refused, ...]
    ways_out: tuple[WayOut, ...]
    findings: tuple[Finding, ...]
    assumptions: tuple[Assumption, ...]
    derivation: tuple[Step, ...]
    sources: tuple[str, ...]
    launch: tuple[LaunchFile, ...]
    tie: tuple[Tie, ...]
    probed_at: str | None = None
    """When the machine was probed whose free memory was planned on; None without a probe."""
    catalog_digest: str
    versions: dict[str, str]
