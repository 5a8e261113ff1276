"""Answers of real models: the libraries' own greedy answers and log-probabilities on both backends, and checkpoints
that are broken on purpose.

llama.cpp keeps its cache in 16 bits, and a prompt that is decoded apart from its choice goes through it: hundredths of
a nat.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest

from planner.proving import answers
from planner.proving.answers import Answer, Prompt, Side
from planner.workers import items_read
from tests.tools import llamacpp, scorer
from tests.tools.environment import run

pytestmark = pytest.mark.slow
WORKER = scorer.SCRIPT.with_name("answer.py")
SMOKE = scorer.SCRIPT.with_name("smoke.json")
TOKENS = 24
PROMPTS = 5
"""The last of the smoke items: three of them have several turns."""
BACKENDS = ("transformers", "llama.cpp")
ITEMS: tuple[dict[str, Any], ...] = (
    {"id": "one", "prompt": "How are statements compared?"},
    {"id": "two", "prompt": "What is a name, and where is it bound? Say it in a few words.", "family": "chat"},
    {"id": "three", "messages": [
        {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Why?"},
    ]},
    {"id": "raw", "prompt": "A B C D E", "raw": True},
    {"id": "pick", "prompt": "Which one?", "choices": ["an expression list", "a statement", "x"], "answer": 1},
    {"id": "rawpick", "prompt": "x y z", "raw": True, "choices": ["a", "0 1 0 1 0"], "answer": 0},
)  # fmt: skip
IDS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from answer_models import GgufTongue, HubTongue
from pathlib import Path
model = Path(sys.argv[2])
tongue = HubTongue(model) if model.is_dir() else GgufTongue(model)
made = []
for item in json.loads(Path(sys.argv[3]).read_text())["items"]:
    prompt = tongue.prompt(item)
    options = [tongue.option(prompt, each) for each in item.get("choices", [])]
    made.append({"ids": prompt.ids, "text": prompt.text, "options": options})
said = json.loads(Path(sys.argv[4]).read_text()) if len(sys.argv) > 4 else []
print(json.dumps({"prompts": made, "texts": [tongue.decode(ids, special=False) for ids in said]}))
"""
"""What a tongue makes of items, and of token ids."""


def python(backend: str) -> Path:
    return scorer.compressor() if backend == "transformers" else scorer.binding()


def called(backend: str, *words: object) -> dict[str, Any]:
    """What a script printed. Raises RuntimeError with what it wrote where it fails."""
    env = os.environ | {"LLAMA_CPP_LIB_PATH": str(llamacpp.llamacpp().bin), "OMP_NUM_THREADS": "1"}
    words = (python(backend), *words)
    done = subprocess.run([*map(str, words)], env=env, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    return dict(json.loads(done.stdout))


@dataclass(frozen=True)
class World:
    """The small Llama of random weights, as a folder and as a GGUF file in 32 bits, and items."""

    folder: Path
    baseline: dict[str, Side] = field(default_factory=dict)
    """What the sound model says to the smoke items."""

    def model(self, backend: str, name: str = "model") -> Path:
        return self.folder / (name if backend == "transformers" else f"{name}.gguf")

    def answered(self, backend: str, *words: object, name: str = "model", items: Path | None = None) -> Side:
        out = self.folder / "answers.json"
        threads = ("--threads", 1) if backend == "llama.cpp" else ()
        given = ("--model", self.model(backend, name), "--items", items or self.folder / "items.json", "--out", out)
        called(
            backend,
            WORKER,
            "run",
            "--backend",
            backend,
            *given,
            "--dtype",
            "float32",
            "--device",
            "cpu",
            *threads,
            *words,
        )
        return answers.read(out.read_bytes(), backend)

    def ids(self, backend: str, said: list[list[int]] | None = None) -> dict[str, Any]:
        script, texts = self.folder / "ids.py", self.folder / "said.json"
        script.write_text(IDS)
        texts.write_text(json.dumps(said or []))
        return called(backend, script, WORKER.parent, self.model(backend), self.folder / "items.json", texts)

    def direct(self, backend: str) -> dict[str, Any]:
        """What the library itself says."""
        prompts = self.ids(backend)["prompts"]
        asked = {
            "prompts": [each["ids"] for each in prompts if not each["options"]], "tokens": TOKENS,
            "options": [[each["ids"], option] for each in prompts for option in each["options"]],
        }  # fmt: skip
        path = self.folder / "asked.json"
        path.write_text(json.dumps(asked))
        own = Path(scorer.__file__).with_name("direct_answers.py")
        return called(backend, own, self.model(backend), path)

    def spoiled(self, name: str, config: dict[str, Any] | None = None) -> Path:
        """A copy with another tokenizer configuration; None takes a field away."""
        made = self.folder / name
        shutil.copytree(self.folder / "model", made)
        path = made / "tokenizer_config.json"
        old = json.loads(path.read_text()) | (config or {})
        path.write_text(json.dumps({field: value for field, value in old.items() if value is not None}))
        return made

    def smoke(self, backend: str, name: str) -> tuple[str, ...]:
        """What the smoke test finds in a copy."""
        few = self.folder / "few.json"
        few.write_text(json.dumps({"items": json.loads(SMOKE.read_text(encoding="utf-8"))["items"][-PROMPTS:]}))
        how = ("--max-tokens", 8)
        if backend not in self.baseline:
            self.baseline[backend] = self.answered(backend, *how, items=few)
        return answers.smoke(answers.paired(self.baseline[backend], self.answered(backend, *how, name=name, items=few)))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("answers"))
    text = made.folder / "text.txt"
    text.write_text("\n\n".join(topics[name] for name in sorted(topics))[:30_000])
    run(scorer.compressor(), Path(scorer.__file__).with_name("tiny_llama.py"), made.folder / "model", text)
    scorer.convert(made.folder / "model", made.folder / "model.gguf")
    items = [items_read.item_of(dict(row), "items:1") for row in ITEMS]
    (made.folder / "items.json").write_text(json.dumps({"items": items}))
    return made


def texts(side: Side) -> list[str]:
    return [each.text for each in side.answers if "acc" not in each.details]


def likely(side: Side) -> list[float]:
    return [value for each in side.answers for value in each.details.get("logprobs", [])]


@pytest.mark.parametrize("backend", BACKENDS)
def test_greedy_answers_and_choices_are_the_librarys_own(world: World, backend: str) -> None:
    direct = world.direct(backend)
    ends = [ids[:-1] if ids and len(ids) < TOKENS else ids for ids in direct["said"]]
    expected = world.ids(backend, ends)["texts"]
    for batch in (1, 4):
        side = world.answered(backend, "--max-tokens", TOKENS, "--batch", batch)
        assert texts(side) == expected
        assert likely(side) == pytest.approx(direct["logprobs"], abs=0.02 if backend == "llama.cpp" else 2e-4)
    assert len(set(expected)) == len(expected)


def test_both_backends_say_the_same_of_the_same_tokens(world: World) -> None:
    """The two tokenizers part some texts differently, these not. Of a chat whose template writes no BOS, llama.cpp's
    backend puts one in front as llama-server does; vLLM puts none."""
    one, two = ({each.name: each for each in world.answered(by, "--max-tokens", TOKENS).answers} for by in BACKENDS)
    for name in ("raw", "rawpick"):
        assert prompt(one[name]).ids == prompt(two[name]).ids
    assert one["rawpick"].details["logprobs"] == pytest.approx(two["rawpick"].details["logprobs"], abs=0.02)
    assert one["raw"].text.strip()[:8] == two["raw"].text.strip()[:8]
    assert (prompt(one["one"]).bos, prompt(two["one"]).bos) == (0, 1)


def prompt(answer: Answer) -> Prompt:
    assert answer.prompt is not None
    return answer.prompt


def test_choices_are_by_length_and_by_themselves(world: World) -> None:
    side = world.answered("transformers")
    picks = {each.name: each for each in side.answers if "acc" in each.details}
    for row in ITEMS[-2:]:
        found, lengths = picks[row["id"]], [len(choice) for choice in row["choices"]]
        values = found.details["logprobs"]
        assert found.details["acc"] == values.index(max(values))
        norm = [value / length for value, length in zip(values, lengths, strict=True)]
        assert found.details["acc_norm"] == norm.index(max(norm))
        assert found.text == row["choices"][found.details["acc_norm"]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_sampled_answers_are_the_items_own_whatever_stands_beside_them(world: World, backend: str) -> None:
    """llama.cpp computes a batch of another size by other kernels: its answers are the same in the same batch alone."""
    how = ("--max-tokens", 12, "--temperature", 0.8, "--top-p", 0.95, "--samples", 2)
    first = 1 if backend == "transformers" else 3
    one, again, other = (
        world.answered(backend, *how, "--seed", seed, "--batch", batch) for seed, batch in ((1, first), (1, 3), (2, 3))
    )
    assert texts(one) == texts(again)
    assert texts(one) != texts(other)
    assert one.sampling.temperature == 0.8
    drawn = [each for each in one.answers if "acc" not in each.details]
    first_of, second_of = ({each.item: each.text for each in drawn if each.sample == place} for place in (0, 1))
    assert first_of.keys() == second_of.keys()
    assert first_of != second_of


def test_a_chat_goes_through_the_models_own_template(world: World) -> None:
    for backend in BACKENDS:
        made = {row["id"]: each for row, each in zip(ITEMS, world.ids(backend)["prompts"], strict=True)}
        assert made["three"]["text"] == "[user] Hello\n[assistant] Yes?\n[user] Why?\n"
        assert made["raw"]["ids"][0] == 1
        assert made["raw"]["text"] == "A B C D E"


def test_smoke_finds_nothing_in_the_same_model(world: World) -> None:
    shutil.copytree(world.folder / "model", world.folder / "same")
    assert world.smoke("transformers", "same") == ()


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (
            {"chat_template": "{% for m in messages %}<{{ m.role }}> {{ m.content }}\n{% endfor %}"},
            "writes another text",
        ),
        ({"chat_template": None}, "the candidate has no chat template"),
        (
            {"chat_template": "<s>{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"},
            "writes another text",
        ),
    ],
)
def test_another_chat_template_fails_smoke_by_name(world: World, config: dict[str, Any], says: str) -> None:
    name = f"template-{len(json.dumps(config))}"
    world.spoiled(name, config)
    found = world.smoke("transformers", name)
    assert len(found) == PROMPTS
    assert all(says in each for each in found)


def test_another_template_in_a_gguf_file_fails_smoke_by_name(world: World) -> None:
    made = world.spoiled("gguf-template", {"chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"})
    scorer.convert(made, world.folder / "gguf-template.gguf")
    found = world.smoke("llama.cpp", "gguf-template")
    assert len(found) == PROMPTS
    assert all("writes another text" in each for each in found)


def broken(file: Path) -> None:
    """One weight becomes NaN, in place."""
    data = bytearray(file.read_bytes())
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    name = next(each for each in header if each.endswith("layers.1.mlp.down_proj.weight"))
    start, kinds = 8 + length + header[name]["data_offsets"][0], {"F32": b"\x00\x00\xc0\x7f", "BF16": b"\xc0\x7f"}
    wrong = kinds[header[name]["dtype"]]
    data[start : start + len(wrong)] = wrong
    file.write_bytes(data)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_weight_that_is_not_a_number_fails_smoke(world: World, backend: str) -> None:
    name = f"nan-{backend.replace('.', '')}"
    made = world.spoiled(name)
    broken(made / "model.safetensors")
    if backend == "llama.cpp":
        scorer.convert(made, world.folder / f"{name}.gguf")
    found = world.smoke(backend, name)
    assert len(found) == PROMPTS
    assert all("not finite" in each for each in found)


def test_what_cannot_be_asked_is_refused_by_name(world: World) -> None:
    world.spoiled("plain", {"chat_template": None})
    with pytest.raises(RuntimeError, match=r"answer.py: item three: the model has no chat template"):
        world.answered("transformers", name="plain")
    refusing = "{{ raise_exception('only robots') }}"
    world.spoiled("refusing", {"chat_template": refusing})
    with pytest.raises(RuntimeError, match=r"answer.py: item one: the model's chat template refuses it: only robots"):
        world.answered("transformers", name="refusing")
    long = items_read.item_of({"id": "long", "prompt": "word " * 3000}, "x:1")
    path = world.folder / "long.json"
    path.write_text(json.dumps({"items": [long]}))
    for backend in BACKENDS:
        with pytest.raises(RuntimeError, match=r"answer.py: item long: \d+ tokens, the model's context has 1024"):
            world.answered(backend, items=path)
    with pytest.raises(RuntimeError, match=r"text\.txt: llama\.cpp could not load it"):
        called("llama.cpp", WORKER, "run", "--backend", "llama.cpp", "--model", world.folder / "text.txt", "--items",
               world.folder / "items.json", "--out", world.folder / "no.json")  # fmt: skip


def test_an_answer_names_its_item_and_its_prompt(world: World) -> None:
    side = world.answered("transformers", "--max-tokens", 4)
    two = next(each for each in side.answers if each.name == "two")
    assert (two.task, two.stopped, two.tokens) == ("chat", "length", 4)
    assert prompt(two).template
