"""Draw what the lab wrote with ``--out results.json``: ``python -m benchmarks.lab.plot results.json``.

A panel for each scenario, because a contestant that does well in one and badly in the next is the news. In a
panel, up is faster and left is politer; whoever lost rows, or had to be stopped, is below the line whatever
its speed. Needs the `lab` extra.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from benchmarks.lab.contestants.roster import ROSTER
from benchmarks.lab.results import OURS, Line, lines
from benchmarks.lab.scenarios import SCENARIOS

DOCS = Path(__file__).parents[2] / "docs" / "lab.svg"
ACROSS = 3
INK, FAINT, ALARM = "#1f2328", "#8b949e", "#b42318"
OUR_COLOUR = "#d9480f"
LOOKS = {
    "recipe": ("#3b6ea5", "s"),
    "sdk": ("#6b7280", "D"),
    "lm-deluge": ("#7a5195", "^"),
    "async-batch-llm, tuned": ("#2a9d8f", "X"),
    "async-batch-llm": ("#8ab17d", "p"),
    "data-designer": ("#b08900", "v"),
    "curator": ("#a05a6b", "h"),
}
"""Colour and marker of the others; who has none gets the last resort."""
LAST_RESORT = ("#444444", "P")
BELOW = -0.13
"""Height at which those are shown who did not finish the job."""
LEAST_SHOWN = 0.01
"""429s per row below which the horizontal scale is linear."""


@click.command()
@click.argument("results", type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=DOCS, show_default="docs/lab.svg")
@click.option("--scenario", "chosen", multiple=True, type=click.Choice(list(SCENARIOS)), help="Default: all.")
def plot(results: Path, out: Path, chosen: tuple[str, ...]) -> None:
    """Draw RESULTS as a picture; the ending of its name says of what kind (.svg, .png, .pdf)."""
    kept = json.loads(results.read_text())
    found = [
        line
        for line in lines(kept["results"])
        if line.kind != "not offered" and (not chosen or line.scenario in chosen)
    ]
    if not found:
        raise click.ClickException("there is nothing to draw in it")
    mpl.rcParams.update(
        {
            "font.family": "sans-serif",
            "font.size": 9,
            "text.color": INK,
            "axes.edgecolor": "#d0d7de",
            "axes.labelcolor": INK,
            "xtick.color": FAINT,
            "ytick.color": FAINT,
            "svg.hashsalt": "lab",  # the same figures make the same file
        }
    )
    metadata = {"Date": None} if out.suffix == ".svg" else None
    draw(found, kept).savefig(out, metadata=metadata, facecolor="white", dpi=144)
    print(f"{out}: {len({line.scenario for line in found})} scenarios")


def draw(found: Sequence[Line], kept: Mapping[str, Any]) -> Figure:
    """The picture."""
    names = list(dict.fromkeys(line.scenario for line in found))
    across = min(ACROSS, len(names))
    down = -(-len(names) // across)
    height = 2.65 * down + 1.7
    figure = Figure(figsize=(3.35 * across + 0.6, height))
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    most = max((line.refused or 0.0 for line in found), default=1.0)
    for number, panel in enumerate(panels.flat):
        if number >= len(names):
            panel.set_visible(False)
            continue
        about = kept["scenarios"][names[number]]["about"]
        draw_panel(panel, [line for line in found if line.scenario == names[number]], about, most)
        panel.tick_params(labelbottom=number + across >= len(names))
    panels[0][0].annotate(
        "better", (0.66, 0.62), (0.8, 0.4), "axes fraction", color=FAINT, fontsize=8, ha="center",
        arrowprops={"arrowstyle": "->", "color": FAINT, "shrinkA": 1, "shrinkB": 0},
    )  # fmt: skip
    top = 1.0 - 0.78 / height
    figure.subplots_adjust(
        left=0.72 / figure.get_figwidth(),
        right=0.985,
        top=top,
        bottom=1.05 / height,
        hspace=0.34,
        wspace=0.08,
    )
    figure.text(0.012, 1 - 0.13 / height, "How fast, and how rudely", fontsize=12, weight="bold", va="top")
    figure.supxlabel("refusals (429) for each row", fontsize=9, y=0.66 / height)
    middle = (top + 1.05 / height) / 2
    figure.supylabel("speed, as a share of what the limits allow", fontsize=9, x=0.012, y=middle)
    legend(figure, found)
    machine = kept["machine"]
    measured = (
        f"{machine['date']}, Python {machine['python']}, {machine['cpus']} CPUs shared with the simulator"
    )
    figure.text(0.988, 1 - 0.17 / height, measured, fontsize=7, color=FAINT, ha="right", va="top")
    return figure


def draw_panel(panel: Axes, found: Sequence[Line], about: str, most: float) -> None:
    """One scenario."""
    name = found[0].scenario
    panel.set_title(name, fontsize=10, weight="bold", loc="left", pad=15)
    panel.annotate(
        about, (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points",
        fontsize=8, color=FAINT,
    )  # fmt: skip
    panel.set_xscale("symlog", linthresh=LEAST_SHOWN, linscale=0.5)
    panel.set_xlim(-LEAST_SHOWN * 0.5, max(2.0, most * 2.5))
    panel.set_xticks([tick for tick in (0, 0.01, 0.1, 1, 10) if tick < max(2.0, most * 2.5)])
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    panel.set_ylim(-0.26, 1.1)
    panel.set_yticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "", "50 %", "", "100 %"])
    panel.axhspan(-0.26, 0.0, color=ALARM, alpha=0.06, linewidth=0)
    panel.axhline(0.0, color=ALARM, alpha=0.4, linewidth=0.8)
    panel.axhline(1.0, color="#d0d7de", linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    panel.grid(visible=True, color="#eef1f4", linewidth=0.7)
    panel.set_axisbelow(True)
    panel.tick_params(length=0, labelsize=8)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    fallen = []
    for line in sorted(found, key=lambda line: line.contestant == OURS):
        if line.kind or line.lost:
            fallen.append(line)
        else:
            draw_point(panel, line, line.share or 0.0)
    draw_fallen(panel, fallen)


def draw_point(panel: Axes, line: Line, height: float) -> None:
    """A contestant at its place."""
    colour, marker, size = look(line.contestant)
    panel.plot(
        line.refused or 0.0, height, marker, color=colour, markersize=size, markeredgecolor="white",
        markeredgewidth=0.9, zorder=5 if line.contestant == OURS else 4, clip_on=False,
    )  # fmt: skip
    if line.contestant == OURS:
        panel.annotate(
            "ours", (line.refused or 0.0, height), xytext=(9, -3), textcoords="offset points",
            color=colour, weight="bold", fontsize=9, zorder=6,
        )  # fmt: skip


def draw_fallen(panel: Axes, fallen: Sequence[Line]) -> None:
    """Those who lost rows or had to be stopped, each with a word about it, at different heights."""
    steps = (-0.055, -0.13, -0.205)
    for number, line in enumerate(sorted(fallen, key=lambda line: line.refused or 0.0)):
        height = steps[number % len(steps)] if len(fallen) > 1 else BELOW
        draw_point(panel, line, height)
        where = line.refused or 0.0
        left = where > 1.0
        panel.annotate(
            fate(line), (where, height), xytext=(-7 if left else 7, -2.6), textcoords="offset points",
            fontsize=7, color=ALARM, ha="right" if left else "left", zorder=6,
        )  # fmt: skip


def fate(line: Line) -> str:
    """What became of a contestant that did not finish the job, in two words."""
    return line.kind or f"{line.lost:.1%} of rows lost".replace(".0%", "%").replace("%", " %")


def look(contestant: str) -> tuple[str, str, float]:
    """Colour, marker, size."""
    if contestant == OURS:
        return OUR_COLOUR, "o", 11.0
    return *LOOKS.get(contestant, LAST_RESORT), 7.5


def legend(figure: Figure, found: Sequence[Line]) -> None:
    """Who is who, below."""
    there = {line.contestant for line in found}
    entries = []
    for name in [name for name in ROSTER if name in there]:
        colour, marker, size = look(name)
        entries.append(
            Line2D([], [], color=colour, marker=marker, markersize=min(size, 9), linestyle="", label=name)
        )
    figure.legend(
        handles=entries, loc="lower center", ncols=4 if figure.get_figwidth() > 6 else 2, frameon=False,
        fontsize=8.5, handletextpad=0.3, columnspacing=1.6, borderaxespad=0.25,
    )  # fmt: skip


if __name__ == "__main__":
    plot()
