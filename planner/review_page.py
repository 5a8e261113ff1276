"""A review as one file: Markdown or HTML with its charts inside, nothing fetched from elsewhere.

Templates hold layout only. In HTML every text is escaped by the engine; in Markdown by the filters of the launch files.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, get_args

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from catalog.errors import BadInput
from planner import charts, render, resources
from planner.review import Review, sections

Format = Literal["md", "html"]
FORMATS: tuple[Format, ...] = get_args(Format)
UNDRAWN = (
    "Charts are left out: they need matplotlib, `pip install 'lanewise[review]'`. Every value stands in the tables."
)


def checked(kind: str) -> Format:
    """A format by its name. Raises BadInput for another one."""
    for known in FORMATS:
        if kind == known:
            return known
    raise BadInput(f"expected one of {', '.join(FORMATS)}, got {kind!r}", "format")


def page(review: Review, kind: Format) -> bytes:
    """The document in UTF-8; the same review gives the same bytes."""
    drawn = charts.charts(review)
    context = {
        "title": f"Capacity review: {review.plan.request['model']}",
        "plan": review.plan,
        "as_of": _as_of(review),
        "sections": sections(review),
        "charts": {name: Markup(chart.svg) for name, chart in drawn.items()},  # noqa: S704 - drawn here, text escaped
        "undrawn": "" if charts.available() else UNDRAWN,
    }
    return _templates().get_template(f"review.{kind}.j2").render(context).encode()


def _as_of(review: Review) -> str:
    """The date of the facts: the request's, or the catalogue's own."""
    asked = review.plan.request.get("as_of")
    assumed = (each.value for each in review.plan.assumptions if each.path == "as_of")
    return str(asked or next(assumed, "") or "undated")


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(resources.templates() / "review"),
        undefined=StrictUndefined,
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),  # noqa: S701 - Markdown has its filter
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"prose": render.prose, "kind": lambda block: type(block).__name__}
    return environment
