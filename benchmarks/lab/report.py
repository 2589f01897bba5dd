"""How results are shown: a table for the terminal, Markdown for readers.

Both are made from the JSON that the lab writes; ``python -m benchmarks.lab.report results.json`` prints the
Markdown once more.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.lab.measure import WORDS, must_hold, written
from benchmarks.lab.results import OURS, Line, bounded, lines, merged

LEGEND = (
    "share: least possible time / time taken (0 with rows missing) · 429s/row: refusals for each row · "
    "sent: most often for one row · CPU ms: of the contestant, per row"
)
HEADINGS = ("failed", "seconds", "share", "429s/row", "sent", "CPU ms", "MB")


# ---- for the terminal


def table(kept: Mapping[str, Any]) -> Table:
    """A section for each scenario, a line for each run; within 100 columns."""
    several = len(kept["seeds"]) > 1
    grid = Table(box=SIMPLE_HEAD, caption=LEGEND, caption_justify="left", padding=(0, 1, 0, 0))
    grid.add_column("scenario, contestant", no_wrap=True)
    if several:
        grid.add_column("seed", justify="right", no_wrap=True)
    for heading in HEADINGS:
        grid.add_column(heading, justify="right", no_wrap=True)
    grid.add_column("", overflow="fold")
    found = lines(kept["results"])
    for name in dict.fromkeys(line.scenario for line in found):
        grid.add_section()
        grid.add_row(f"[bold]{name}[/]")
        for line in (line for line in found if line.scenario == name):
            for result in line.results:
                seed = [str(result["seed"])] if several else []
                grid.add_row(
                    f"  {line.contestant}",
                    *seed,
                    *_cells(result),
                    _remark(kept, result),
                    style=_style(result),
                )
            if several and line.held:
                grid.add_row("  [bold]held[/]", "", line.held)
    return grid


def cost_table(kept: Mapping[str, Any]) -> Table:
    """What the executor itself costs."""
    grid = Table("cost", "figure", "target", "", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    grid.columns[1].justify = grid.columns[2].justify = "right"
    for group in _costs(kept):
        missed = any(not _met(figure) for figure in group)
        style = "bold red" if missed else "dim" if group[0]["target"] is None else "bold green"
        grid.add_row(*_cost_cells(group), style=style)
    return grid


def _cells(result: Mapping[str, Any]) -> list[str]:
    """What the columns of `HEADINGS` say of a run."""
    if result["outcome"] != "finished":
        refused = result.get("refused")
        return ["-", "-", "-", "-" if refused is None else _few(refused), "-", "-", "-"]
    return [
        str(result["failed"]),
        f"{result['took']:.1f}",
        f"{result['share']:.3f}",
        _few(result["refused"]),
        str(result["attempts"] or "-"),
        f"{1000 * result['cpu'] / result['rows']:.1f}",
        f"{result['peak_mb']:.0f}",
    ]


def _remark(kept: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """The figures that only this scenario has, and what is wrong or that nothing is."""
    if result["outcome"] != "finished":
        return str(result["words"])
    figures = [figure for figure in bounded(kept, result["scenario"]) if result[figure] is not None]
    said = [f"{WORDS[figure].name} {written(figure, result[figure])}" for figure in figures]
    if "complaints" in result:
        said += result["complaints"] or ["ok"]
    return "; ".join(said)


def _style(result: Mapping[str, Any]) -> str:
    if "complaints" in result:
        return "bold red" if result["complaints"] else "bold green"
    return "yellow" if result["outcome"] != "finished" or result["failed"] else ""


# ---- for readers


def markdown(kept: Mapping[str, Any]) -> str:
    """A page: what was measured on what, then a table for each scenario."""
    about = kept["machine"]
    found = lines(kept["results"])
    page = [
        "# Lab results",
        "",
        _measured_on(about, kept["seeds"]),
        "",
        *(
            f"- {name}: {', '.join(f'{package} {version}' for package, version in packages.items())}"
            for name, packages in kept["contestants"].items()
        ),
        "",
        f"{LEGEND[0].upper()}{LEGEND[1:]}. Of several runs: the median (least to most).",
    ]
    if not kept["judged"]:
        page += ["", "A quick look with a tenth of the work: these figures are not to be judged."]
    for name in dict.fromkeys(line.scenario for line in found):
        page += _section(kept, name, [line for line in found if line.scenario == name])
    if kept["costs"]:
        page += ["", "## cost: what the executor itself takes", ""]
        page += _rows(["", "figure", "target", ""], ":--:", [_cost_cells(group) for group in _costs(kept)])
    return "\n".join(page) + "\n"


def _measured_on(about: Mapping[str, Any], seeds: Sequence[int]) -> str:
    where = f"Python {about['python']}, {about['system']}, {about['cpus']} CPUs shared with the simulator"
    return f"{about['date']}, {where}, load {about['load']}. Seeds {', '.join(map(str, seeds))}."


def _section(kept: Mapping[str, Any], name: str, found: Sequence[Line]) -> list[str]:
    scenario = kept["scenarios"][name]
    own = bounded(kept, name)
    headings = ["contestant", "held", "rows lost", "seconds", "share", "429s/row", "sent"]
    headings += [WORDS[figure].name for figure in own] + ["CPU ms/row", "MB", ""]
    sides = "::" + "-" * (len(headings) - 3) + ":"
    must = ", ".join(map(must_hold, scenario["bounds"]))
    about = f"{scenario['conditions']} Must hold for us: no row lost, {must}."
    meanings = [f"- {WORDS[figure].name}: {WORDS[figure].meaning}" for figure in own]
    rows = [_markdown_row(line, own) for line in found]
    title = ["", f"## {name}: {scenario['about']}", "", about, ""]
    return [*title, *(meanings and [*meanings, ""]), *_rows(headings, sides, rows)]


def _markdown_row(line: Line, own: Sequence[str]) -> list[str]:
    cells = [
        line.contestant,
        line.held,
        "-" if line.share is None else f"{line.lost:.1%}" if line.lost else "0",
        _spread(line.values("took"), ".1f"),
        _spread(line.values("share"), ".3f"),
        _spread(line.values("refused"), ".4g"),
        _spread(line.values("attempts"), ".0f"),
        *(_spread(line.values(figure), WORDS[figure].form, WORDS[figure].unit) for figure in own),
        _spread([1000 * cpu for cpu in line.per_row("cpu")], ".1f"),
        _spread(line.values("peak_mb"), ".0f"),
        "; ".join(line.complaints) or line.trouble,
    ]
    return [f"**{cell}**" if cell else "" for cell in cells] if line.contestant == OURS else cells


def _rows(headings: Sequence[str], sides: str, rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table; of every column, `sides` says with a colon that it begins on the left."""
    rule = "|".join(":--" if side == ":" else "--:" for side in sides)
    written = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in (headings, *rows)]
    return [written[0], f"|{rule}|", *written[1:]]


# ---- for both


def _costs(kept: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
    """The figures of what the executor costs, those of several runs together."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for figure in kept["costs"]:
        groups.setdefault(figure["what"], []).append(figure)
    return list(groups.values())


def _cost_cells(group: Sequence[Mapping[str, Any]]) -> list[str]:
    one = group[0]
    target = ""
    if one["target"] is not None:
        target = f"≤ {one['target']:g}"
        if len(group) > 1:
            target += f", met {sum(map(_met, group))} of {len(group)}"
    figure = _spread([figure["value"] for figure in group], ".3g", f" {one['unit']}")
    return [one["what"].strip(), figure, target, one["note"]]


def _met(figure: Mapping[str, Any]) -> bool:
    return figure["target"] is None or figure["value"] <= figure["target"]


def _spread(values: Sequence[float], form: str, unit: str = "") -> str:
    """The median of several values and how far they go; or the only one."""
    if not values:
        return "-"
    low, middle, high = (format(at, form) for at in (min(values), statistics.median(values), max(values)))
    return middle + unit if low == high else f"{middle}{unit} ({low} to {high})"


def _few(share: float) -> str:
    """A share or a multiple, with as many places as say something."""
    return "0" if share == 0 else f"{share:.4f}" if share < 0.01 else f"{share:.2f}"


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Write them merged, as JSON, too.")
def report(results: tuple[Path, ...], out: Path | None) -> None:
    """Print RESULTS, as written by the lab's --out, as a page of Markdown.

    Of what is in several of them, the last counts.
    """
    kept = merged([json.loads(part.read_text()) for part in results])
    if out is not None:
        out.write_text(json.dumps(kept, indent=1) + "\n")
    print(markdown(kept), end="")


if __name__ == "__main__":
    report()
