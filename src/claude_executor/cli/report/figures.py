"""Draws the charts of the report: matplotlib's SVG, adapted to the page.

A chart contains no text but the numbers at its axes. Title, legend and description for screen readers are
part of the page. Its colors are variables of the page's style sheet, so the same chart works on light and on
dark backgrounds.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from claude_executor.cli.terminal.format import amount, percent, span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_executor.bulk.report import Steps
    from claude_executor.bulk.report.lines import Floats

WIDTH, HEIGHT = 430, 210
PIXELS = 72
"""Pixels per inch, so that a point of matplotlib is a pixel of the page."""
TICKS = 5
LONG = 120
"""Seconds from which durations are shown in minutes."""
_TIMES = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800)

COLORS = (
    "ink", "faint", "rows", "requests", "input", "output", "concurrency", "breaker", "waiting", "starting",
    "overload", "refusal", "error", "retry", "money", "low", "middle", "high",
)  # fmt: skip
"""Names of the variables in the style sheet."""
_STANDS_FOR = {name: f"#0000{number:02x}" for number, name in enumerate(COLORS, start=1)}
_mpl: Any = mpl  # only partly typed
_MEANT = {stand_in: f"var(--{name})" for name, stand_in in _STANDS_FOR.items()}

_STYLE: dict[Any, Any] = {  # older supported versions of matplotlib have no type for these names
    "svg.fonttype": "none",
    "svg.hashsalt": "report",  # makes the file reproducible
    "font.size": 12.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": _STANDS_FOR["faint"],
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": _STANDS_FOR["faint"],
    "grid.linewidth": 0.6,
    "text.color": _STANDS_FOR["ink"],
    "xtick.color": _STANDS_FOR["faint"],
    "ytick.color": _STANDS_FOR["faint"],
    "xtick.labelcolor": _STANDS_FOR["ink"],
    "ytick.labelcolor": _STANDS_FOR["ink"],
    "ytick.left": False,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True, slots=True)
class Curve:
    """A series over time: name, color and values."""

    name: str
    color: str
    values: Floats


class Canvas:
    """One chart over the running time of a job."""

    def __init__(self, steps: Steps, seams: Sequence[float]) -> None:
        """Draw the axes. `seams` are the instants at which a run ended and the next began."""
        size = (WIDTH / PIXELS, HEIGHT / PIXELS)
        with _mpl.rc_context(_STYLE):
            self._figure: Any = Figure(figsize=size, dpi=PIXELS, layout="constrained")
            self._axes: Any = self._figure.add_subplot()
        self._steps = steps
        self._top: float | None = None
        self._axes.set_xlim(0.0, steps.length)
        self._axes.xaxis.set_major_locator(MultipleLocator(_every(steps.length)))
        self._axes.xaxis.set_major_formatter(FuncFormatter(_span))
        self._axes.yaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
        self._axes.yaxis.set_major_formatter(FuncFormatter(_amount))
        for seam in seams:
            self._axes.axvline(seam, color=_STANDS_FOR["ink"], linewidth=0.8, linestyle=(0, (1, 3)))

    def line(self, curve: Curve, *, filled: bool = False) -> None:
        """Draw a line through values at the edges of the steps, or at their centres."""
        at = self._steps.edges if len(curve.values) == len(self._steps.edges) else self._steps.centres
        color = _STANDS_FOR[curve.color]
        self._axes.plot(at, curve.values, color=color)
        known = np.concatenate(([False], ~np.isnan(curve.values), [False]))
        alone = known[1:-1] & ~known[:-2] & ~known[2:]  # a single value makes no line
        self._axes.plot(at[alone], curve.values[alone], "o", color=color, markersize=3)
        if filled:
            self._axes.fill_between(at, curve.values, color=color, alpha=0.18, linewidth=0)

    def ceiling(self, seconds: Floats, limits: Floats, *, above: float | None = None) -> None:
        """Draw a limit, dashed, from where it was known. Values above `above` times it are cut off."""
        at, values = np.append(seconds, self._steps.length), np.append(limits, limits[-1:])
        self._axes.plot(
            at, values, color=_STANDS_FOR["ink"], linewidth=1.2, linestyle=(0, (5, 3)), drawstyle="steps-post"
        )
        if above is not None:
            self._top = above * float(limits.max())

    def stack(self, curves: Sequence[Curve], *, whole: float | None = None) -> None:
        """Draw stacked bars, one for each step. `whole` is the top of the axis."""
        floor = np.zeros(len(self._steps.centres))
        for curve in curves:
            top = floor + curve.values
            self._axes.fill_between(
                self._steps.edges,
                np.append(floor, floor[-1:]),
                np.append(top, top[-1:]),
                step="post",
                color=_STANDS_FOR[curve.color],
                linewidth=0,
            )
            floor = top
        if whole is not None:
            self._top = whole

    def shade(self, shares: Floats, color: str) -> None:
        """Shade the steps whose share is at least one half."""
        self._axes.fill_between(
            self._steps.edges,
            0.0,
            1.0,
            where=np.append(shares >= 0.5, shares[-1:] >= 0.5),
            step="post",
            transform=self._axes.get_xaxis_transform(),
            color=_STANDS_FOR[color],
            alpha=0.12,
            linewidth=0,
        )

    def numbers(self, form: str) -> None:
        """Set the format of the vertical axis, after drawing: seconds, dollars or percent."""
        self._axes.yaxis.set_major_formatter(FuncFormatter(_FORMS[form]))
        self._axes.yaxis.set_major_locator(MultipleLocator(0.25) if form == "percent" else MaxNLocator(4))
        if form == "seconds" and (most := self._axes.get_ylim()[1]) >= LONG:
            self._axes.yaxis.set_major_locator(MultipleLocator(_every(most)))
            self._axes.yaxis.set_major_formatter(FuncFormatter(_span))

    def svg(self, name: str, says: str) -> str:
        """Return the chart as an element of a page.

        Args:
            name: Prefix of its ids, unique in the page.
            says: Description for screen readers.
        """
        drawn, high = self._axes.dataLim, self._axes.get_ylim()[1]
        high = high if drawn.y1 > 0 else 1.0
        high = min(high, self._top) if self._top is not None else high
        # Space below zero is a margin of matplotlib, unless something is drawn there.
        self._axes.set_ylim(drawn.y0 if drawn.y0 < -0.1 * high else 0.0, high)
        file = io.BytesIO()
        with _mpl.rc_context(_STYLE):
            self._figure.savefig(file, format="svg", transparent=True, dpi=PIXELS)
        return _for_page(ET.fromstring(file.getvalue()), name, says)


# ---- numbers at the axes


def _span(value: float, _place: object) -> str:
    return span(value)


def _amount(value: float, _place: object) -> str:
    return amount(value)


def _seconds(value: float, _place: object) -> str:
    return f"{value:,.3g} s"


def _dollars(value: float, _place: object) -> str:
    whole, _, part = f"{value:,.8f}".partition(".")
    part = part.rstrip("0")
    return f"${whole}.{part.ljust(2, '0')}" if part else f"${whole}"


def _percent(value: float, _place: object) -> str:
    return percent(value)


_FORMS = {"seconds": _seconds, "dollars": _dollars, "percent": _percent}


def _every(length: float) -> float:
    return next((step for step in _TIMES if length / step <= TICKS), length / TICKS)


# ---- from matplotlib's SVG to the page's


def _for_page(svg: ET.Element, name: str, says: str) -> str:
    """Remove from matplotlib's SVG what a page does not need, and add a description."""
    for element in svg.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
    for parent in list(svg.iter()):
        for child in list(parent):
            if child.tag in {"metadata", "style"}:  # the page has one style sheet for all
                parent.remove(child)
    text = "".join(ET.tostring(element, "unicode") for element in svg)
    used = set(re.findall(r'(?:href="|url\()#([\w.-]+)', text))
    for element in svg.iter():
        _clean(element, name, used)
    box = svg.attrib["viewBox"]
    svg.attrib = {"viewBox": box, "role": "img", "aria-label": says}
    return ET.tostring(svg, "unicode", method="html")


def _clean(element: ET.Element, name: str, used: set[str]) -> None:
    """Make ids unique, leave fonts to the page, and replace the stand-in colors by variables."""
    attributes = element.attrib
    if attributes.get("id") in used:
        attributes["id"] = f"{name}-{attributes['id']}"
    else:
        attributes.pop("id", None)
    if "href" in attributes:
        attributes["href"] = f"#{name}-{attributes['href'][1:]}"
    if "clip-path" in attributes:
        attributes["clip-path"] = attributes["clip-path"].replace("url(#", f"url(#{name}-")
    if attributes.get("transform", "").startswith("rotate(-0 "):
        del attributes["transform"]
    if "style" in attributes:
        kept = [part for part in attributes["style"].split("; ") if not part.startswith("font-family")]
        attributes["style"] = re.sub(
            r"#0000[0-9a-f]{2}\b", lambda found: _MEANT.get(found[0], found[0]), "; ".join(kept)
        )
    if "d" in attributes:
        attributes["d"] = re.sub(r"(\.\d)\d+", r"\1", attributes["d"]).replace(" \n", " ").strip()
