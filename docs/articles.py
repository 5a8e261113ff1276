"""What three articles claim about quantization for serving, and how each claim is answered.

`reference/articles.toml` holds the claims; `articles_page` writes `reference/articles.md` from them.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

DATA = Path(__file__).parent / "reference" / "articles.toml"
GENERATED = "<!-- written by `make docs` from articles.toml; change that file instead -->"

Kind = Literal["quality", "speed", "memory", "cost", "start-up", "hardware", "recipe", "engine", "process"]
VERDICTS = {
    "how": "applied by a rule",
    "correction": "corrected by evidence",
    "unsupported": "unsupported",
    "out_of_scope": "out of scope",
}
"""The field that carries each verdict, and the words for it."""
CLAIM_ID = re.compile(r"(A\d)-(\d{3})([a-z]?)")


class Article(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One article. `sentences`: how many it has; those in `states_nothing` have no claim. Empty: not printed."""

    id: str
    title: str
    author: str
    publisher: str
    date: str
    sentences: int
    states_nothing: list[int]


class Claim(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One claim with exactly one answer. Raises ValueError where an answer lacks a field."""

    id: str
    claim: str
    kind: Kind
    rules: list[str] = []
    how: str = ""
    correction: str = ""
    value: str = ""
    source: str = ""
    unsupported: str = ""
    out_of_scope: str = ""

    def __post_init__(self) -> None:
        if not CLAIM_ID.fullmatch(self.id):
            raise ValueError(f"claim id {self.id!r} is not like A3-017 or A3-017b")
        if not self.claim or len([name for name in VERDICTS if getattr(self, name)]) != 1:
            raise ValueError(f"{self.id} needs a claim and exactly one of {', '.join(VERDICTS)}")
        if bool(self.correction) != bool(self.value) or bool(self.correction) != bool(self.source):
            raise ValueError(f"{self.id}: a correction needs a value and a source, and only a correction has them")
        if (self.how and not self.rules) or (self.rules and self.verdict not in ("how", "correction")):
            raise ValueError(f"{self.id}: rules belong to a claim that a rule applies or carries corrected")

    @property
    def verdict(self) -> str:
        """The name of the field that holds the answer."""
        return next(name for name in VERDICTS if getattr(self, name))

    @property
    def article(self) -> str:
        """A1, A2 or A3."""
        return self.id[:2]

    @property
    def sentence(self) -> int:
        """The number of the sentence that states it."""
        return int(self.id[3:6])


class Articles(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    article: list[Article]
    claim: list[Claim]


def load(path: Path = DATA) -> Articles:
    """The articles and claims, strictly. Raises msgspec.ValidationError, naming the field, for a file that is amiss."""
    return msgspec.toml.decode(path.read_bytes(), type=Articles)


def articles_page() -> str:
    """The page: counts, a table per article in reading order, and which claims each rule answers."""
    found = load()
    parts = [GENERATED, HEAD, *_counts(found), ""]
    for article in found.article:
        claims = [claim for claim in found.claim if claim.article == article.id]
        parts += [f"## {article.id}: {article.title}", "", _origin(article, len(claims)), "", *_table(claims), ""]
    return "\n".join([*parts, *_index(found.claim)]).rstrip() + "\n"


HEAD = """# Three articles, claim by claim

Three articles on quantization are among this project's sources. Every sentence with a number, a condition or advice is
answered here, in reading order: a rule applies it, evidence corrects it, nobody's measurement supports it, or it is out
of scope. Claims are given in short words of our own. Rows like `Q0080` are of the evidence table, rows like `GSQ-00016`
of the measured speeds. "Planned" numbers come from `lanewise plan` as of 2026-11-21 and share the errors of
[the speed model](../accuracy/speed.md).
"""


def _counts(found: Articles) -> list[str]:
    verdicts = Counter((claim.article, claim.verdict) for claim in found.claim)
    columns = [article.id for article in found.article]
    rows = [["sentences", *(str(article.sentences) for article in found.article)]]
    rows += [["of them without a claim", *(str(len(article.states_nothing)) for article in found.article)]]
    for name, words in VERDICTS.items():
        rows += [[f"claims {words}", *(str(verdicts[column, name]) for column in columns)]]
    sums = [str(sum(int(cell) for cell in row[1:])) for row in rows]
    lines = [f"| {' | '.join([*row, total])} |" for row, total in zip(rows, sums, strict=True)]
    return [f"| | {' | '.join(columns)} | all |", "|---|" + "---:|" * (len(columns) + 1), *lines]


def _origin(article: Article, claims: int) -> str:
    by = article.author or "author not printed"
    where = [by, article.publisher if article.publisher not in ("", article.author) else "", article.date]
    return f"{', '.join(filter(None, where))}. {article.sentences} sentences, {claims} claims."


def _table(claims: list[Claim]) -> list[str]:
    rows = [f"| {claim.id} | {_cell(claim.claim)} | {claim.kind} | {_cell(_answer(claim))} |" for claim in claims]
    return ["| number | claim | kind | answer |", "|---|---|---|---|", *rows]


def _answer(claim: Claim) -> str:
    if claim.how:
        return f"{_links(claim.rules)}: {claim.how}"
    if claim.correction:
        carried = f" ({_links(claim.rules)})" if claim.rules else ""
        return f"**Corrected:** {claim.correction}. Evidence: {claim.value}. Source: {claim.source}{carried}"
    words = "**Unsupported:**" if claim.unsupported else "**Out of scope:**"
    return f"{words} {claim.unsupported or claim.out_of_scope}"


def _links(codes: list[str]) -> str:
    return ", ".join(f"[{code}](rules.md#{code.lower()})" for code in codes)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _index(claims: list[Claim]) -> list[str]:
    by_rule = defaultdict(list)
    for claim in claims:
        for code in claim.rules:
            by_rule[code].append(claim.id)
    rows = [f"| {_links([code])} | {', '.join(ids)} |" for code, ids in sorted(by_rule.items())]
    return ["## Rules and the claims they answer", "", "| rule | claims |", "|---|---|", *rows]
