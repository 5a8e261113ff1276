"""The rendered scripts, really run with a stub engine: the words it hears are the words that were meant."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.errors import BadInput
from planner import engines
from planner.launch import Adapter, Launch, LaunchOptions
from planner.plan import Candidate
from planner.render import code_span, fence, files, prose, write, yaml_value
from tests.launch.candidates import CASES, facts, published
from tests.launch.stub import Heard, run

NASTY = (
    "'; touch pwned; '",
    '"; touch pwned; "',
    "$(touch pwned)",
    "`touch pwned`",
    "a\ntouch pwned\n",
    "x; rm -rf room & touch pwned",
    "${IFS}touch${IFS}pwned",
    "-leading-dash",
    "--config",
    "--api-key=stolen",
    "key: {a: [1, 2]} # & *anchor !!python/object",
    "%YAML 1.1\n---\n- evil",
    "ünïcødé 模型 😀",
    "tab\tback\\slash and  spaces ",
    "*?[a-z]~{1,2}",
    "{{ launch }}{% raw %}",
    "name=with=equals",
    '{"name": "x"}',
    "!history^^",
)
LLAMA = "gguf-file"


def folder_of(candidate: Candidate, options: LaunchOptions, place: Path) -> Path:
    """Render into `place`; the folder of the target."""
    return write(place, files(candidate, facts(candidate), options))[0].parent


def meant(launch: Launch, folder: Path) -> tuple[str, ...]:
    """The words that the engine must hear."""
    words, port = launch.program[1:], ("--port", str(launch.port))
    if launch.target == "llamacpp":
        return launch.argv[1:]
    return (*words[:2], "--config", str(folder / "config.yaml"), *words[2:], *port)


@pytest.mark.parametrize("name", CASES)
def test_the_engine_hears_the_plan(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    launch = engines.launch(case.candidate, facts(case.candidate), case.options)
    folder = folder_of(case.candidate, case.options, tmp_path)
    heard = run(folder / "serve.sh", tmp_path)
    assert heard.argv == meant(launch, folder)
    assert {key: heard.env.get(key) for key in launch.env} == launch.env
    if launch.target == "vllm":
        assert yaml.safe_load((folder / "config.yaml").read_text()) == launch.settings


@pytest.mark.parametrize("field", ["model", "served_name", "model_path", "host", "revision", "adapter", "lora"])
@pytest.mark.parametrize("text", NASTY)
def test_a_hostile_string_stays_one_word_for_vllm(field: str, text: str, tmp_path: Path) -> None:
    options = _options(CASES["fp16-t4-lora"].options, field, text)
    candidate = CASES["fp16-t4-lora"].candidate
    launch = engines.launch(candidate, facts(candidate), options)
    folder = folder_of(candidate, options, tmp_path)
    heard = run(folder / "serve.sh", tmp_path)
    assert heard.argv == meant(launch, folder)
    assert any(text in word or text in _read(word) for word in heard.argv)
    assert heard.argv[:2] == ("serve", launch.model)
    assert not launch.model.startswith("-")


@pytest.mark.parametrize("field", ["model", "served_name", "model_path", "host", "lora"])
@pytest.mark.parametrize("text", NASTY)
def test_a_hostile_string_stays_one_word_for_llama_server(field: str, text: str, tmp_path: Path) -> None:
    options = _options(CASES[LLAMA].options, field, text)
    candidate = CASES[LLAMA].candidate
    split = {"served_name": ",", "lora": ',"'}.get(field, "")
    if set(split) & set(text):
        with pytest.raises(BadInput, match="llama-server cannot take"):
            engines.launch(candidate, facts(candidate), options)
        return
    launch = engines.launch(candidate, facts(candidate), options)
    heard = run(folder_of(candidate, options, tmp_path) / "serve.sh", tmp_path)
    assert heard.argv == launch.argv[1:]
    assert text in _pairs(heard).values()


@pytest.mark.parametrize("text", NASTY)
def test_a_hostile_artefact_stays_one_word(text: str, tmp_path: Path) -> None:
    candidate = msgspec.structs.replace(CASES["awq-a10g"].candidate, artifact=published(text, text, revision=text))
    options = CASES["awq-a10g"].options
    folder = folder_of(candidate, options, tmp_path)
    heard = run(folder / "serve.sh", tmp_path)
    assert heard.argv == meant(engines.launch(candidate, facts(candidate), options), folder)
    assert f"--revision={text}" in heard.argv


@pytest.mark.parametrize("text", [text for text in NASTY if "\n" not in text])
def test_a_hostile_folder_is_no_obstacle(text: str, tmp_path: Path) -> None:
    case = CASES["awq-a10g"]
    folder = folder_of(case.candidate, case.options, tmp_path / text)
    assert run(folder / "serve.sh", tmp_path).argv[2:4] == ("--config", str(folder / "config.yaml"))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_any_text_stays_one_word(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("any")
    options = LaunchOptions(model=text, served_name=text)
    candidate = CASES["bf16-speculative-h100"].candidate
    heard = run(folder_of(candidate, options, place) / "serve.sh", place)
    assert f"--served-model-name={text}" in heard.argv
    assert heard.argv[1] in (text, f"./{text}")


@pytest.mark.parametrize("text", ["", "a\0b", "\ud800"])
def test_what_no_process_can_be_given_is_refused(text: str) -> None:
    candidate = CASES["awq-a10g"].candidate
    with pytest.raises(BadInput, match=r"\$\.launch\.host"):
        engines.launch(candidate, facts(candidate), LaunchOptions(model="m", host=text))


KEYS = st.text(max_size=100)
"""YAML reads a key on one line up to 1,024 characters; ours are flags."""


@given(
    value=st.recursive(
        st.text() | st.integers() | st.booleans() | st.none(),
        lambda kind: st.lists(kind) | st.dictionaries(KEYS, kind),
    )
)
def test_yaml_reads_back_what_was_written(value: object) -> None:
    assert yaml.safe_load(f"key: {yaml_value(value)}") == {"key": value}


@pytest.mark.parametrize("share", [0.9, 0.92, 0.875, 0.1, 1.0])
def test_yaml_reads_shares_as_numbers(share: float) -> None:
    assert yaml.safe_load(yaml_value(share)) == share


@pytest.mark.parametrize("text", NASTY)
def test_markdown_keeps_a_name_inside_its_span(text: str) -> None:
    span = code_span(text)
    ticks = len(span) - len(span.lstrip("`"))
    assert "\n" not in span
    assert "`" * ticks not in span[ticks:-ticks]
    assert "<" not in prose(f"{text} <script>").replace("\\<", "")


@pytest.mark.parametrize(("text", "ticks"), [("", 3), ("a`b", 3), ("a\n```\n", 4), ("`````", 6)])
def test_a_fence_is_longer_than_any_inside(text: str, ticks: int) -> None:
    assert fence([("echo", text)]) == "`" * ticks


def test_replicas_count_ports_and_devices(tmp_path: Path) -> None:
    case = CASES["gguf-two-gpus"]
    folder = folder_of(case.candidate, case.options, tmp_path)
    first = run(folder / "serve.sh", _fresh(tmp_path, "first"))
    second = run(folder / "serve.sh", _fresh(tmp_path, "second"), REPLICA="1")
    pinned = run(folder / "serve.sh", _fresh(tmp_path, "pinned"), REPLICA="1", CUDA_VISIBLE_DEVICES="4,5")
    assert [heard.argv[-1] for heard in (first, second, pinned)] == ["8080", "8081", "8081"]
    assert [heard.env["CUDA_VISIBLE_DEVICES"] for heard in (first, second, pinned)] == ["0,1", "2,3", "4,5"]


@pytest.mark.parametrize("replica", ["2", "-1", "01", "", " ", "a[$(touch pwned)]", "1; touch pwned", "99999"])
def test_a_replica_that_does_not_exist_is_refused(replica: str, tmp_path: Path) -> None:
    case = CASES["gguf-two-gpus"]
    script = folder_of(case.candidate, case.options, tmp_path) / "serve.sh"
    room = _fresh(tmp_path, "room")
    done = subprocess.run(
        [script],
        cwd=room,
        env={"REPLICA": replica, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    if replica == "":
        assert done.returncode == 127, "an empty REPLICA is the first one: the script goes on to llama-server"
        return
    assert (done.returncode, list(room.iterdir())) == (2, [])
    assert "REPLICA is 0 to 1" in done.stderr


def _options(options: LaunchOptions, field: str, text: str) -> LaunchOptions:
    if field == "adapter":
        return msgspec.structs.replace(options, adapters=(Adapter(name=text, path="/srv/lora"),))
    if field == "lora":
        return msgspec.structs.replace(options, adapters=(Adapter(name="one", path=text),))
    return msgspec.structs.replace(options, **{field: text})


def _read(word: str) -> str:
    """An adapter's word is JSON: its name and path; any other word is itself."""
    return "\n".join(json.loads(word).values()) if word.startswith('{"name": ') else word


def _pairs(heard: Heard) -> dict[str, str]:
    return dict(zip(heard.argv[::2], heard.argv[1::2], strict=False))


def _fresh(place: Path, name: str) -> Path:
    (place / name).mkdir()
    return place / name
