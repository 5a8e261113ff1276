"""Charts of a review as SVG: drawn by matplotlib, stripped of what is not drawing, the same bytes for the same review.

Needs the extra `review`. Text stays text; colours are those of Okabe and Ito, told apart by all eyes; every value that
is drawn also stands in a table of the review.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast
from xml.etree import ElementTree

from msgspec import Struct

from planner.review import Review
from planner.sketch import FAINT, INK, Sketch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
GRID = "#d9d9d9"
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lanewise",
    "text.parse_math": False,
    "path.simplify": False,
    "font.size": 9.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}
_ONE_AT_A_TIME = threading.Lock()
"""matplotlib's style is one for the whole process."""


class Chart(Struct, frozen=True, kw_only=True):
    """One drawing: an `svg` element as text, with its title and description inside."""

    title: str
    svg: str


def available() -> bool:
    """Whether matplotlib is installed."""
    try:
        import matplotlib.figure  # noqa: F401 - asked for, not used
    except ImportError:
        return False
    return True


def charts(review: Review) -> dict[str, Chart]:
    """Every chart that the review has something for, by the name of its place; none without matplotlib."""
    if not available():
        return {}
    from planner import drawings

    drawn: dict[str, Chart] = {}
    with styled():
        for name, draw in drawings.DRAWINGS.items():
            sketch = draw(review)
            if sketch is not None:
                drawn[name] = Chart(title=sketch.title, svg=_svg(name, sketch))
    return drawn


@contextmanager
def styled() -> Iterator[None]:
    """matplotlib in the style of the charts: figures are made and written inside."""
    import matplotlib as mpl

    with _ONE_AT_A_TIME, mpl.rc_context(cast(Any, STYLE)):
        yield


def document(name: str, sketch: Sketch) -> str:
    """A drawing as an SVG file, to a tenth of a point."""
    drawn = re.sub(r"font-family: [^;]*; ?", "", re.sub(r"(\d\.\d)\d+", r"\1", _svg(name, sketch)))
    return f'<?xml version="1.0" encoding="utf-8"?>\n{drawn}\n'


def _svg(name: str, sketch: Sketch) -> str:
    """The drawing alone: no metadata, ids of its own, fonts of the page, a title and a description."""
    written = io.BytesIO()
    figure: Figure = sketch.figure
    figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(written.getvalue())  # noqa: S314 - our own drawing, just made
    for part in [*root.findall(f"{{{SVG}}}metadata"), *root.findall(f"{{{SVG}}}defs[{{{SVG}}}style]")]:
        root.remove(part)  # its style would hold for the page around it
    for element in root.iter():
        _clean(element, f"{name}-")
    width, height = (root.attrib.pop(side).removesuffix("pt") for side in ("width", "height"))
    root.attrib |= {"role": "img", "aria-labelledby": f"{name}-title {name}-desc", "class": "chart"}
    root.attrib |= {"width": width, "height": height, "font-family": "system-ui, sans-serif"}
    root.attrib |= {"stroke-linejoin": "round", "stroke-linecap": "butt"}
    for place, (tag, text) in enumerate((("title", sketch.title), ("desc", sketch.description))):
        label = ElementTree.Element(f"{{{SVG}}}{tag}", {"id": f"{name}-{tag}"})
        label.text = text
        root.insert(place, label)
    ElementTree.indent(root, space="")
    return _plain_prefix(ElementTree.tostring(root, encoding="unicode"))


def _clean(element: ElementTree.Element, prefix: str) -> None:
    """Ids start with the chart's name, so that several drawings live in one document."""
    for key, value in list(element.attrib.items()):
        if key == "id":
            element.set(key, prefix + value)
        elif key == f"{{{XLINK}}}href":
            del element.attrib[key]
            element.set("href", f"#{prefix}{value.removeprefix('#')}")
        else:
            placed = re.sub(r"url\(#", f"url(#{prefix}", value)
            element.set(key, re.sub(r"font: ([\d.]+px) [^;]*", r"font-size: \1", placed))


def _plain_prefix(text: str) -> str:
    """SVG as the default namespace, which HTML needs; the writer would call it ns0."""
    return re.sub(r"(</?)ns0:", r"\1", text).replace("xmlns:ns0=", "xmlns=")
