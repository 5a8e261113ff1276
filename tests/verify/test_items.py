"""Users' task files: read strictly, named by file and line, marked as documented."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from catalog.errors import BadInput
from planner.proving.answers import Sampling
from planner.proving.questions import Questions
from planner.running import task_files
from planner.workers import items_mark, items_read
from tests.verify.test_workers import WORKERS, run

WEATHER = {
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
PERSON = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


def file(folder: Path, *rows: Any, name: str = "t.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def read(folder: Path, *rows: Any) -> list[dict[str, Any]]:
    return items_read.read([file(folder, *rows)])[0]


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"answer": "Paris"}, "exact"),
        ({"answer": ["Paris", "paris"]}, "exact"),
        ({"answer": 42}, "number"),
        ({"answer": [42, 42.5]}, "number"),
        ({"answer": "Paris", "match": "contains"}, "contains"),
        ({"answer": "^P.ris", "match": "regex"}, "regex"),
        ({"answer": 1, "choices": ["a", "b"]}, "choice"),
        ({"answer": {"name": "weather", "arguments": {"city": "Rome"}}, "tools": [WEATHER]}, "call"),
        ({"answer": 7, "match": "contains"}, "contains"),
    ],
)
def test_a_match_follows_from_the_answer_or_is_said(tmp_path: Path, row: dict[str, Any], match: str) -> None:
    (item,) = read(tmp_path, {"prompt": "?", **row})
    assert item["expected"]["match"] == match


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{", "not JSON"),
        ("[1]", "expected an object, found list"),
        ('{"prompt": "?", "answer": NaN}', "NaN is no JSON number"),
        ({"prompt": "?", "anwser": "x"}, "unknown field 'anwser'"),
        ({"answer": "x"}, "either `prompt` or `messages`"),
        ({"prompt": "?", "messages": [{"role": "user", "content": "?"}]}, "either `prompt` or `messages`"),
        ({"prompt": " "}, "`prompt` has to be text that is not empty"),
        ({"messages": []}, "`messages` has to be a list"),
        ({"messages": [{"role": "robot", "content": "?"}]}, "`messages` has to be a list"),
        ({"messages": [{"role": "user", "content": ["?"]}]}, "a `content` of text"),
        ({"messages": [{"role": "assistant", "content": "?"}]}, "there is nothing to answer"),
        ({"messages": [{"role": "user", "content": "?"}], "raw": True}, "`raw` goes with `prompt`"),
        ({"prompt": "?", "answer": True}, "`answer` has to be"),
        ({"prompt": "?", "answer": []}, "`answer` has to be"),
        ({"prompt": "?", "answer": "x", "match": "close"}, "`match` has to be one of exact"),
        ({"prompt": "?", "match": "exact"}, "`match` without an `answer`"),
        ({"prompt": "?", "answer": "x", "match": "number"}, "match 'number', which takes a number"),
        ({"prompt": "?", "answer": "(", "match": "regex"}, "is no pattern"),
        ({"prompt": "?", "answer": 3, "match": "regex"}, "is no pattern"),
        ({"prompt": "?", "choices": ["a", "b"], "answer": 2}, "the place of one of the `choices`"),
        ({"prompt": "?", "choices": ["a", "b"], "answer": "a"}, "the place of one of the `choices`"),
        ({"prompt": "?", "choices": ["a", "b"], "answer": 0, "match": "exact"}, "does not go with match 'exact'"),
        ({"prompt": "?", "choices": ["a"], "answer": 0}, "two or more different texts"),
        ({"prompt": "?", "choices": ["a", "a"], "answer": 0}, "two or more different texts"),
        ({"prompt": "?", "choices": ["a", "b"], "answer": 0, "schema": {}}, "no `schema`, no `tools` beside them"),
        ({"prompt": "?", "answer": 0, "match": "choice"}, "match 'choice'"),
        ({"prompt": "?", "answer": {"name": "weather"}, "tools": [WEATHER]}, "`name` and `arguments`"),
        ({"prompt": "?", "answer": {"name": "weather", "arguments": {}}}, "beside `tools`"),
        ({"prompt": "?", "schema": {"type": "objet"}}, "`schema` is no JSON schema"),
        ({"prompt": "?", "schema": {"$ref": "https://example.org/s.json"}}, "nothing is fetched"),
        ({"prompt": "?", "schema": {"items": [{"$ref": "file:///etc/passwd"}]}}, "no JSON schema|nothing is fetched"),
        ({"prompt": "?", "tools": [{"parameters": {}}]}, "every tool needs a `name`"),
        ({"prompt": "?", "tools": [WEATHER, WEATHER]}, "every tool needs a `name` of its own"),
        ({"prompt": "?", "tools": [{"name": "x", "parameters": {"type": 3}}]}, "`parameters` of x is no JSON schema"),
        ({"prompt": "?", "tools": []}, "`tools` has to be a list"),
        ({"prompt": "?", "id": "a\nb"}, "`id` has to be a name"),
        ({"prompt": "?", "id": 7}, "`id` has to be a name"),
    ],
)
def test_a_line_that_is_no_item_is_named_by_file_and_line(tmp_path: Path, row: Any, says: str) -> None:
    with pytest.raises(items_read.Fault, match=rf"t\.jsonl:3: .*({says})"):
        read(tmp_path, {"prompt": "first", "answer": "x"}, "", row)


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes(b'{"prompt": "\xff"}')
    with pytest.raises(items_read.Fault, match="not UTF-8 at byte 12"):
        items_read.read([tmp_path / "t.jsonl"])
    with pytest.raises(items_read.Fault, match="hold no item"):
        read(tmp_path, "", " ")


def test_an_item_is_named_by_what_it_asks(tmp_path: Path) -> None:
    one, two, three = read(
        tmp_path,
        {"prompt": "?", "answer": "x", "id": "a", "note": "first", "family": "chat"},
        {"prompt": "?", "raw": True, "answer": "x"},
        {"prompt": "??", "answer": "x"},
    )
    assert len({one["id"], two["id"], three["id"]}) == 3
    (again,) = read(tmp_path, {"answer": "y", "prompt": "?"})
    assert again["id"] == one["id"]
    assert (one["name"], again["name"]) == ("a", again["id"][:12])


def test_a_line_that_says_nothing_new_is_asked_once_and_one_that_contradicts_is_refused(tmp_path: Path) -> None:
    row = {"prompt": "?", "answer": "x"}
    items, again = items_read.read([file(tmp_path, row, row, {**row, "note": "again"})])
    assert (len(items), again) == (1, 2)
    with pytest.raises(items_read.Fault, match=r"t\.jsonl:2: it asks what .*t\.jsonl:1 asks, and expects another"):
        read(tmp_path, row, {"prompt": "?", "answer": "y"})
    with pytest.raises(items_read.Fault, match=r"t\.jsonl:2: id 'a' is .*t\.jsonl:1's already"):
        read(tmp_path, {**row, "id": "a"}, {"prompt": "other", "answer": "x", "id": "a"})


def mark(expected: dict[str, Any], text: str, **item: Any) -> tuple[float | None, bool | None]:
    raw = {"details": {"raw": item.pop("raw")}} if "raw" in item else {"details": {}}
    return items_mark.marked({"expected": expected, **item}, {"text": text, **raw})


@pytest.mark.parametrize(
    ("match", "answer", "text", "score"),
    [
        ("exact", "Paris", " Paris\n", 1), ("exact", "Paris", "Paris.", 0), ("exact", "Paris", "paris", 0),
        ("exact", ["A", "B"], "B", 1), ("exact", "a  b", "a b", 1), ("exact", 7, "7", 1),
        ("contains", "Paris", "It is Paris.", 1), ("contains", "new york", "a new\nyork b", 1),
        ("contains", "x", "", 0),
        ("number", 42, "It is 42.", 1), ("number", 42, "42 of 43", 0), ("number", 1234.5, "€ 1,234.50", 1),
        ("number", -3, "x = -3", 1), ("number", 1e6, "1000000", 1), ("number", 0.1, ".", 0), ("number", [1, 2], "2", 1),
        ("number", 3, "<think>maybe 4</think> 3", 1), ("number", 5, "no number", 0), ("number", 10, "12,10", 1),
        ("regex", r"\bcat\b", "a cat.", 1), ("regex", r"^cat$", "a cat", 0),
    ],
)  # fmt: skip
def test_answers_are_right_as_their_match_says(match: str, answer: Any, text: str, score: float) -> None:
    assert mark({"match": match, "answer": answer}, text) == (score, None)


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ('{"age": 3}', True), ('```json\n{"age": 3}\n```', True), ('<think>{}</think>{"age": 3}', True),
        ('{"age": "3"}', False), ("age 3", False), ("", False), ('{"age": 3} ok', False), ("[" * 5000, False),
    ],
)  # fmt: skip
def test_an_answer_fits_its_schema_as_a_whole(text: str, valid: bool) -> None:
    assert mark({"schema": PERSON}, text) == (None, valid)


CALL = '{"name": "weather", "arguments": {"city": "Rome"}}'


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        (CALL, True), (f"<tool_call>\n{CALL}\n</tool_call>", True), (f"Sure.\n<tool_call>{CALL}</tool_call>", True),
        (f"[TOOL_CALLS][{CALL}]", True), (f"<|python_tag|>{CALL}", True), (f"{CALL}<|eom_id|>", True),
        ('{"name": "weather", "parameters": {"city": "Rome"}}', True),
        ('{"type": "function", "function": {"name": "weather", "arguments": "{\\"city\\": \\"Rome\\"}"}}', True),
        (f"<tool_call>{CALL}</tool_call><tool_call>{CALL.replace('weather', 'stocks')}</tool_call>", False),
        ('{"name": "stocks", "arguments": {}}', False), ('{"name": "weather", "arguments": {"town": "Rome"}}', False),
        ('{"name": "weather"}', False), ("It is sunny in Rome.", False), (f"I would say {CALL}", False), ("", False),
        ("[]", False), ("null", False), ('{"name": ["weather"]}', False),
    ],
)  # fmt: skip
def test_a_tool_is_called_by_its_name_with_arguments_that_fit(text: str, valid: bool) -> None:
    tools = [{"type": "function", "function": WEATHER}]
    assert mark({}, "", tools=tools, raw=text) == (None, valid)
    expected = {"match": "call", "answer": {"name": "weather", "arguments": {"city": "Rome"}}}
    assert mark(expected, "", tools=tools, raw=text) == (float(valid), valid)


def test_a_choice_is_marked_by_its_place() -> None:
    item = {"expected": {"match": "choice", "answer": 1}, "choices": ["a", "b"]}
    for place, score in ((0, 0.0), (1, 1.0)):
        assert items_mark.marked(item, {"text": "", "details": {"acc_norm": place}}) == (score, None)
    assert items_mark.marked(item, {"text": "", "details": {}}) == (0.0, None)


def test_files_become_items_and_answers_are_marked(tmp_path: Path) -> None:
    task = file(
        tmp_path,
        {"id": "one", "prompt": "?", "answer": 42, "family": "chat"},
        {"prompt": "!", "schema": PERSON, "family": "rag"},
        {"prompt": "-", "answer": "x", "family": "code"},
    )
    out, said, marked = (tmp_path / name for name in ("items.json", "said.json", "answers.json"))
    done = run("items.py", "read", "--task", task, "--family", "chat", "rag", "--out", out)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["items"], told["left_out"], told["families"]) == (2, 1, {"chat": 1, "rag": 1})
    assert told["files"] == {str(task): hashlib.sha256(task.read_bytes()).hexdigest()}
    items = json.loads(out.read_text())["items"]
    texts = {"one": "42", items[1]["name"]: "{}"}
    answers = [{"item": item["id"], "text": texts[item["name"]], "details": {}} for item in items]
    said.write_text(json.dumps({"model": "m", "answers": answers}))
    done = run("items.py", "mark", "--items", out, "--said", said, "--out", marked)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"answers": 2, "scored": 1, "right": 1.0, "asked_for_a_form": 1, "valid": 0}
    made = json.loads(marked.read_text())
    assert made["model"] == "m"
    assert [(each["score"], each["valid"]) for each in made["answers"]] == [(1.0, None), (None, False)]


PASSAGE = " ".join(f"word{place}" for place in range(60))


@pytest.mark.parametrize(
    ("asks", "calibration", "says"),
    [
        ("what is the best way to get from here to Rome", "What is the best way\nto get from here to Rome?", None),
        ("what is the best way to get from here to Rome", "so: What is the best way\nto get from here to Rome !", "it"),
        ("how are you", "how are you", None),
        (f"first {PASSAGE}", f"x {PASSAGE}", "a passage of 50 words"),
        (f"first {PASSAGE}", f"x {PASSAGE[200:]}", None),
    ],
)
def test_items_that_stand_in_the_calibration_text_are_refused(
    tmp_path: Path, asks: str, calibration: str, says: str | None
) -> None:
    task = file(tmp_path, {"id": "mine", "prompt": asks, "answer": "x"})
    plain = tmp_path / "c.txt"
    plain.write_text(calibration)
    chats = file(tmp_path, {"messages": [{"role": "user", "content": calibration}]}, name="c.jsonl")
    for text in (plain, chats):
        done = run("items.py", "read", "--task", task, "--calibration", text, "--out", tmp_path / "items.json")
        assert (done.returncode == 0) == (says is None), done.stderr
        if says is not None:
            assert f"item mine: {says} stands in the calibration text {text}" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["read", "--task", "{gone}", "--out", "{out}"], "No such file"),
        (["read", "--task", "{bad}", "--out", "{out}"], "bad.jsonl:1: not JSON"),
        (["read", "--task", "{good}", "--family", "chat", "--out", "{out}"], "no item is of the families asked for"),
        (["read", "--task", "{good}", "--calibration", "{bad}", "--out", "{out}"], "not calibration text"),
        (["mark", "--items", "{good}", "--said", "{good}", "--out", "{out}"], "not answers to"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(tmp_path: Path, words: list[str], says: str) -> None:
    places = {
        "{gone}": tmp_path / "gone.jsonl", "{bad}": file(tmp_path, "{", name="bad.jsonl"),
        "{out}": tmp_path / "out.json",
        "{good}": file(tmp_path, {"prompt": "what is the best way to get there", "answer": "x"}),
    }  # fmt: skip
    done = run("items.py", *[places.get(word, word) for word in words])
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not places["{out}"].exists()


def test_the_smoke_items_are_twenty_plain_prompts_named_by_what_they_ask() -> None:
    made = json.loads((WORKERS / "smoke.json").read_text(encoding="utf-8"))
    assert len(made["items"]) == 20
    for item in made["items"]:
        asked = {name: item[name] for name in items_read.ASKED if item.get(name)}
        whole = json.dumps(asked, sort_keys=True, ensure_ascii=False).encode()
        assert item["id"] == hashlib.sha256(whole).hexdigest()
    assert len({item["name"] for item in made["items"]}) == 20
    assert sum("messages" in item and len(item["messages"]) > 1 for item in made["items"]) >= 3


def test_task_files_are_counted_by_family_and_kind(tmp_path: Path) -> None:
    path = file(
        tmp_path,
        {"prompt": "?", "answer": 42, "family": "chat"},
        {"prompt": "?!", "answer": "x"},
        {"messages": [{"role": "user", "content": "abcd"}], "schema": PERSON, "family": "rag"},
        {"prompt": "weather?", "tools": [WEATHER], "family": "rag", "answer": {"name": "weather", "arguments": {}}},
    )
    own = task_files.own_items([path], {"chat", "rag"})
    assert own is not None
    assert own.asked == {"": 1, "chat": 1, "rag": 2}
    assert own.scored == {"": 1, "chat": 1, "rag": 1}
    assert own.formed == {"rag": 2}
    assert own.letters == (1 + 2 + 4 + 8) / 4
    with pytest.raises(BadInput, match="no task family is called 'rag'; known: chat, code"):
        task_files.own_items([path], {"chat", "code"})
    with pytest.raises(BadInput, match="named twice"):
        task_files.own_items([path, path], {"chat", "rag"})


@pytest.mark.parametrize(("line", "command"), [
    ("python score.py --x 'a b'", ("python", "score.py", "--x", "a b")),
    ("run; rm -rf $HOME", ("run;", "rm", "-rf", "$HOME")),
    ("run `id` $(id) > out | cat", ("run", "`id`", "$(id)", ">", "out", "|", "cat")),
    ("'{run}/x' {out}", ("{run}/x", "{out}")),
])  # fmt: skip
def test_a_scorer_is_split_into_words_and_nothing_more(line: str, command: tuple[str, ...]) -> None:
    made = task_files.scorer(line, 0.5)
    assert made is not None
    assert made.command == command


def test_words_of_a_scorer_that_are_files_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("score.py", "run"):
        (tmp_path / name).write_text("")
    made = task_files.scorer("run score.py ./run", 0.0)
    assert made is not None
    assert made.command == ("run", str(tmp_path / "score.py"), str(tmp_path / "run"))
    assert made.files == (str(tmp_path / "score.py"), str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("line", "tolerance", "says"),
    [
        ("run 'x", 1.0, "cannot be split"), ("", 1.0, "expected a command"), ("run", None, "--scorer-tolerance N"),
        ("run", float("nan"), "--scorer-tolerance N"), ("run", -1.0, "--scorer-tolerance N"),
        (None, 1.0, "goes with --scorer"), ("a\0b", 1.0, "expected a command"),
    ],
)  # fmt: skip
def test_scorers_that_cannot_be_run_are_refused(line: str | None, tolerance: float | None, says: str) -> None:
    with pytest.raises(BadInput, match=re.escape(says)):
        task_files.scorer(line, tolerance)


def given(**more: float | None) -> dict[str, float | None]:
    return {"temperature": None, "top_p": None, "top_k": None, "samples": None} | more


def test_sampling_is_said_in_full_or_not_at_all() -> None:
    assert task_files.sampling(given(), sampled=False, tokens=64, seed=1) is None
    made = task_files.sampling(given(temperature=0.7, top_k=20), sampled=True, tokens=64, seed=1)
    assert made == Sampling(temperature=0.7, top_k=20, max_tokens=64, seed=1)
    for flags, sampled, says in (
        (given(temperature=0.7), False, "goes with --sampled"), (given(samples=2), False, "goes with --sampled"),
        (given(top_p=0.9), True, "say what is served"), (given(temperature=0), True, "above 0"),
        (given(temperature=float("nan")), True, "above 0"), (given(temperature=1, top_p=1.1), True, "a share"),
        (given(temperature=1, top_p=0), True, "a share"), (given(temperature=1, top_k=-1), True, "a count"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=says):
            task_files.sampling(flags, sampled=sampled, tokens=64, seed=1)


def test_what_needs_items_is_refused_without_them(tmp_path: Path) -> None:
    scorer = task_files.scorer("run", 1.0)
    for asked in (Questions(scorer=scorer), Questions(sampled=Sampling(temperature=1.0))):
        with pytest.raises(BadInput, match="--task FILE"):
            task_files.questions(None, asked)
    own = task_files.own_items([file(tmp_path, {"prompt": "?"})], set())
    with pytest.raises(BadInput, match="no item expects anything"):
        task_files.questions(own, Questions())
    assert task_files.questions(own, Questions(scorer=scorer)).own == own
