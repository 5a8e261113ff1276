"""A review as one file: complete in itself, safe to open, the same bytes every time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace

from catalog.errors import BadInput
from planner import charts, drawings, review_page
from planner.review import Review
from tests.review.reviewed import ROOT, reviewed

GOLDEN = ROOT / "tests" / "golden" / "review" / "support-chat.md"
DRAWN = ("example", "tight", "users")
"""Plans whose charts differ in kind: everything in reach, the request's limits reached, a closed loop."""
DRAWING = re.compile(r"<svg.*?</svg>", re.DOTALL)
SVG = "{http://www.w3.org/2000/svg}"


@cache
def page(name: str, kind: review_page.Format = "md") -> str:
    return review_page.page(reviewed(name), kind).decode()


def test_the_review_of_the_example_is_the_golden_one() -> None:
    text = DRAWING.sub(lambda found: f"<svg>{ElementTree.fromstring(found[0])[0].text}</svg>", page("example"))
    if os.environ.get("LANEWISE_GOLDEN") == "write":
        GOLDEN.parent.mkdir(parents=True, exist_ok=True)
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


class Page(HTMLParser):
    """Every element, every attribute that leads somewhere, and every id of a document."""

    VOID = frozenset({"meta"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.leads: list[str] = []
        self.ids: list[str] = []
        self.handlers: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.open += [] if tag in self.VOID else [tag]
        for name, value in attrs:
            if name in {"src", "href", "xlink:href", "action", "data", "srcset", "background"}:
                self.leads.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", [*DRAWN, "infeasible"])
def test_html_needs_nothing_else(name: str) -> None:
    text = page(name, "html")
    seen = Page(text)
    assert seen.open == []
    assert (
        seen.tags & {"script", "link", "img", "image", "iframe", "object", "embed", "base", "form", "foreignobject"}
        == set()
    )
    assert seen.handlers == []
    assert [lead for lead in seen.leads if not (lead.startswith("#") and lead[1:] in seen.ids)] == []
    assert "@import" not in text
    assert [place for place in re.findall(r"url\(([^)]*)\)", text) if place[1:] not in seen.ids] == []
    assert len(seen.ids) == len(set(seen.ids))


@pytest.mark.parametrize("name", DRAWN)
def test_a_plan_with_a_choice_has_every_chart(name: str) -> None:
    drawn = charts.charts(reviewed(name))
    assert drawn.keys() == drawings.DRAWINGS.keys()
    for place, chart in drawn.items():
        root = ElementTree.fromstring(chart.svg)
        title, described = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
        assert title is not None
        assert described is not None
        assert (title.text, root.get("role")) == (chart.title, "img")
        assert described.text
        assert root.get("aria-labelledby") == f"{title.get('id')} {described.get('id')}"
        assert set(re.findall(r"https?://[^\"]*", chart.svg)) == {"http://www.w3.org/2000/svg"}
        assert chart.svg in page(name, "html"), place


def test_without_a_choice_the_refusals_are_drawn_alone() -> None:
    assert charts.charts(reviewed("infeasible")).keys() == {"refusals"}


def test_an_unknown_price_is_drawn_as_such() -> None:
    drawn = charts.charts(reviewed("unpriced"))
    assert "candidates" not in drawn
    assert "no price is known" in drawn["growth"].svg


def test_a_charts_numbers_are_those_of_the_review() -> None:
    drawn, made = charts.charts(reviewed("example")), reviewed("example")
    assert [
        group.rule for group in made.refusals if f"{group.rule} {group.candidates}" not in drawn["refusals"].svg
    ] == []
    assert made.growth is not None
    assert made.growth.steps
    assert [step for step in made.growth.steps
            if f"{step.devices} devices from month {step.number}" not in drawn["growth"].svg] == []  # fmt: skip


@pytest.mark.parametrize("kind", review_page.FORMATS)
def test_the_same_review_gives_the_same_bytes(kind: review_page.Format) -> None:
    assert review_page.page(reviewed("example"), kind).decode() == page("example", kind)


def test_any_process_gives_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for seed in ("1", "2"):
        words = [sys.executable, "-m", "planner", "review", "examples/support-chat.toml", "--format", "html"]
        environment = os.environ | {"PYTHONHASHSEED": seed, "LANEWISE_DATA_DIR": str(tmp_path)}
        made.append(subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, check=True).stdout)
    assert made[0] == made[1] == page("as the command asks", "html").encode()


def test_no_other_format_is_made() -> None:
    assert [review_page.checked(kind) for kind in review_page.FORMATS] == ["md", "html"]
    with pytest.raises(BadInput, match="md, html"):
        review_page.checked("pdf")


HOSTILE = "</td><script>alert(1)</script>|a`b*c_[d](javascript:e)\n# f $x$ &lt;"


def hostile() -> Review:
    """The example as if model, instance and a finding had been named by an enemy."""
    made = reviewed("example")
    choice = made.plan.choice
    assert choice is not None
    bad = replace(
        choice,
        offer={**(choice.offer if isinstance(choice.offer, dict) else {}), "instance": HOSTILE},
        findings=tuple(replace(finding, because=HOSTILE, source=HOSTILE) for finding in choice.findings),
        pools=tuple(replace(pool, accelerator=HOSTILE) for pool in choice.pools),
    )
    plan = replace(made.plan, request={**made.plan.request, "model": HOSTILE}, choice=bad, sources=(HOSTILE,))
    memory = tuple(replace(held, candidate=bad) for held in made.memory)
    return replace(made, plan=plan, memory=memory)


def test_foreign_words_stay_words_in_html() -> None:
    text = review_page.page(hostile(), "html").decode()
    assert "script" not in Page(text).tags
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_foreign_words_stay_words_in_markdown() -> None:
    text = review_page.page(hostile(), "md").decode()
    plain = DRAWING.sub("", text)
    assert re.findall(r"(?<!\\)<(?!/?figure>)", plain) == []
    assert "\n# f" not in plain
    assert re.findall(r"(?<!\\)\[[^\]]*(?<!\\)\]\(", plain) == []


@pytest.mark.parametrize("name", ["example", "infeasible"])
def test_markdown_tables_are_whole(name: str) -> None:
    widths: list[int] = []
    for line in DRAWING.sub("", page(name)).splitlines():
        if not line.startswith("|"):
            widths = []
            continue
        widths.append(len(re.findall(r"(?<!\\)\|", line)))
        assert len(set(widths)) == 1, line
        assert not line.endswith(" "), line


def test_markdown_keeps_a_chart_in_one_block() -> None:
    drawn = DRAWING.findall(page("example"))
    assert len(drawn) == len(drawings.DRAWINGS)
    assert [chart for chart in drawn if "\n\n" in chart] == []
    assert drawn == DRAWING.findall(page("example", "html"))


def test_without_matplotlib_the_tables_stay_and_the_page_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "available", lambda: False)
    for kind in review_page.FORMATS:
        text = review_page.page(reviewed("example"), kind).decode()
        assert "<svg" not in text
        assert "lanewise\\[review\\]" in text or "lanewise[review]" in text
        assert "Sign-off" in text
