"""Start-up logs of llama-server and the other programs of llama.cpp, from b1700 to b11500.

llama.cpp prints MiB as bytes / 1024 / 1024 (llama-context.cpp, llama-kv-cache.cpp: `size / 1024.0 / 1024.0`). The
function that prints a line was renamed often, the words after it seldom: a wording here leaves the function out. Newer
builds print buffers from verbosity 4 on (`-lv 4`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from planner.observe.reading import Chosen, Reading, Seen, Unknown, latest, lines_of

DEVICE_NAME = r"(?P<of>[\w\[\]:.-]+)"
BUFFERS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("kv_mib", re.compile(rf": +{DEVICE_NAME} KV buffer size = +(?P<value>[\d.]+) MiB")),
    ("state_mib", re.compile(rf": +{DEVICE_NAME} RS buffer size = +(?P<value>[\d.]+) MiB")),
    ("compute_buffer_mib", re.compile(rf": +{DEVICE_NAME} compute buffer size (?:= |of |is ) *(?P<value>[\d.]+) MiB")),
    ("output_buffer_mib", re.compile(rf": +{DEVICE_NAME} +output buffer size = +(?P<value>[\d.]+) MiB")),
    (
        "model_buffer_mib",
        re.compile(rf"(?:load_tensors|load): +{DEVICE_NAME} (?:model )?buffer size = +(?P<value>[\d.]+) MiB"),
    ),
)
"""A size per device; the first that fits reads the line. Caches of one device (full and windowed layers) are added up,
and so are the buffers of a model in several files."""
ADDED = ("kv_mib", "state_mib", "model_buffer_mib")
UNITS = {"MiB": 1.0, "GiB": 1024.0}
NUMBERS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("kv_self_mib", re.compile(r"KV self size += +([\d.]+) MiB")),
    ("kv_size_mib", re.compile(r"llama_kv_cache\w*: size = +([\d.]+) MiB")),
    ("cells_count", re.compile(r"size = +[\d.]+ MiB \( *(\d+) cells")),
    ("offloaded_layers_count", re.compile(r"offloaded (\d+)/\d+ layers")),
    ("layers_count", re.compile(r"offloaded \d+/(\d+) layers")),
    ("host_buffer_mib", re.compile(r"mem required += +([\d.]+) Mi?B")),
    ("graph_nodes_count", re.compile(r"graph(?::|_reserve:)? +nodes += +(\d+)")),
    ("graph_splits_count", re.compile(r"splits += +(\d+)")),
    ("load_s", re.compile(r"load time = +([\d.]+) ms")),
    ("fit_s", re.compile(r"fitting params to free memory took ([\d.]+) seconds")),
)
MILLI = ("load_s",)
SETTING = re.compile(
    r"(?:llama_context|llama_new_context_with_model|print_info|llm_load_print_meta|llama_init_from_model): +"
    r"(?P<name>n_ctx|n_ctx_seq|n_ctx_per_seq|n_seq_max|n_batch|n_ubatch|flash_attn|kv_unified|n_ctx_train|model type"
    r"|model ftype|file type|file format|general\.name|arch|model size|file size) += +(?P<value>.+?) *$"
)
CACHE_TYPES = re.compile(r"K \((\w+)\): +[\d.]+ MiB, V \((\w+)\)")
SLOTS = re.compile(r"n_slots = (\d+)")
THREADS = re.compile(r"n_threads = (\d+)")
LOADED = re.compile(r"loading model '(.+)'|loaded meta data with .* from (\S+) \(version")
BUILDS = (
    re.compile(r"\bbuild(?:_info)?: +(?:b)?(?P<build>\d+)[ -]\(?(?P<commit>[0-9a-f]{7,})"),
    re.compile(r"\bbuild = (?P<build>\d+) \((?P<commit>\w+)\)"),
    re.compile(r"\bbuild (?P<build>\d+) \((?P<commit>[0-9a-f]+)\) with"),
    re.compile(r'"build":(?P<build>\d+),"commit":"(?P<commit>\w+)"'),
    re.compile(r"build=(?P<build>\d+) commit=\"(?P<commit>\w+)\""),
)
DEVICE = re.compile(r"Device (\d+): ([^,]+?), (?:compute capability|gfx)|using device (\w+) \(([^)]+)\)")
CLOCK = re.compile(r"^(\d+)\.(\d\d)\.(\d{3})\.(\d{3}) [A-Z] ")
FILE = re.compile(r"print_info: file size += +(?P<value>[\d.]+) (?P<unit>MiB|GiB)")
READY = re.compile(r"model loaded|server is listening|HTTP server listening|listening on http")
CHOICES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("attention", re.compile(r"(Flash Attention (?:enabled|disabled))")),
    ("attention", re.compile(r"Flash Attention was auto, set to (\w+)")),
    ("backend", re.compile(r"loaded (\w+) backend from")),
)
MEASURE = re.compile(r"\d ?[MG]i?B\b")
PASSED = re.compile(
    r"^.*(?:tok|token to piece) ?.*cache size|prompt cache|limit:|memory breakdown|projected to use|will leave"
    r"|total, .*free"
    r"|MiB free\)|device_info|free memory|ctx size|cache state|common_memory_breakdown|self-? ?size|- +\w+ +:"
    r"|KV overrides|memory_seq|graph_reserve|llama_model_loader: - kv|model size|file size|layer +\d+:|checkpoint"
)
"""Sizes that are no buffer of this start: tokenizer tables, plans of `-fit`, free memory, saved prompts."""
EMPTY = re.compile(r"buffer size = +0\.00 MiB")
ENGINE = re.compile(r"llama_|llm_load|load_tensors:|ggml_|srv  llama_server")


def claims(text: str) -> bool:
    """Whether the text is a log of llama.cpp."""
    return ENGINE.search(text) is not None


def read(text: str, source: str) -> Reading:
    """Buffers by device, settings, cache types and times; sizes in other words are reported."""
    numbers: list[Seen] = []
    settings: dict[str, str] = {}
    chosen: dict[tuple[str, str], Chosen] = {}
    unknown: list[Unknown] = []
    clocks: list[tuple[float, bool]] = []
    for number, line in lines_of(text):
        place = f"line {number}"
        found, stated, empty = list(_seen(line, place)), _settings(line), EMPTY.search(line) is not None
        numbers += found
        settings |= stated
        picked = [
            Chosen(what=what, name=match[1], place=place) for what, one in CHOICES for match in one.finditer(line)
        ]
        chosen = {(each.what, each.name): each for each in picked} | chosen
        if (clock := CLOCK.match(line)) is not None:
            minutes, seconds, milli, micro = map(int, clock.groups())
            clocks.append((60 * minutes + seconds + milli / 1e3 + micro / 1e6, READY.search(line) is not None))
        if not (found or stated or picked or empty) and MEASURE.search(line) and not PASSED.search(line):
            unknown.append(Unknown(place=place, text=CLOCK.sub("", line).strip()))
    ready = [Seen(metric="ready_s", value=at, place="clock of the log") for at, up in clocks if up][-1:]
    return Reading(
        source=source, format="llama.cpp start-up log", engine="llama.cpp", version=settings.pop("build", ""),
        settings=settings, numbers=latest([*_added(numbers), *ready]), chosen=tuple(chosen.values()),
        unknown=tuple(unknown),
    )  # fmt: skip


def _seen(line: str, place: str) -> Iterator[Seen]:
    for metric, one in BUFFERS:
        if (match := one.search(line)) is not None:
            if float(match["value"]):  # a dry run of `-fit` prints buffers of nothing
                yield Seen(metric=metric, value=float(match["value"]), place=place, of=match["of"])
            break
    if (file := FILE.search(line)) is not None:
        yield Seen(metric="file_mib", value=float(file["value"]) * UNITS[file["unit"]], place=place)
    for metric, one in NUMBERS:
        if (match := one.search(line)) is not None:
            yield Seen(metric=metric, value=float(match[1]) / (1e3 if metric in MILLI else 1), place=place)


def _settings(line: str) -> dict[str, str]:
    found: dict[str, str] = {}
    if (match := SETTING.search(line)) is not None:
        found[match["name"]] = match["value"]
    if (types := CACHE_TYPES.search(line)) is not None:
        found |= {"type_k": types[1], "type_v": types[2]}
    if (slots := SLOTS.search(line)) is not None:
        found["n_slots"] = slots[1]
    if (model := LOADED.search(line)) is not None:
        found["model"] = model[1] or model[2]
    if (build := next((match for one in BUILDS if (match := one.search(line))), None)) is not None:
        found["build"] = f"b{build['build']} ({build['commit']})"
    if (device := DEVICE.search(line)) is not None:
        found[f"device {device[1] or device[3]}"] = device[2] or device[4]
    return found


def _added(numbers: list[Seen]) -> Iterator[Seen]:
    """Buffers of one device and one start as their sum. A second model load begins a new sum."""
    sums: dict[tuple[str, str], Seen] = {}
    for seen in numbers:
        if seen.metric not in ADDED:
            yield seen
            continue
        key = (seen.metric, seen.of)
        before = sums.get(key)
        sums[key] = seen if before is None or _again(seen, before, numbers) else _sum(before, seen)
    yield from sums.values()


def _sum(before: Seen, seen: Seen) -> Seen:
    places = f"{before.place}, {seen.place.removeprefix('line ')}"
    return Seen(metric=seen.metric, value=before.value + seen.value, place=places, of=seen.of)


def _again(seen: Seen, before: Seen, numbers: list[Seen]) -> bool:
    """Whether a compute buffer was printed between the two: then a new start prints the later one."""
    first, last = (int(re.findall(r"\d+", each.place)[-1]) for each in (before, seen))
    return any(each.metric == "compute_buffer_mib" and first < int(each.place[5:]) < last for each in numbers)
