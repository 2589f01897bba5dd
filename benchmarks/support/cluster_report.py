"""Findings of `benchmarks.micro.cluster`: what was asked and measured, and a page of several runs."""

import os
import platform
import time
from importlib.metadata import version
from subprocess import run
from typing import Any, NamedTuple


class Finding(NamedTuple):
    """One thing that is asked, and what was got."""

    what: str
    sign: str
    asked: float
    got: float

    @property
    def kept(self) -> bool:
        """Whether it is as asked."""
        return self.got >= self.asked if self.sign == ">=" else self.got <= self.asked

    def __str__(self) -> str:
        verdict = "ok" if self.kept else "MISSED"
        return f"{self.what:58} asked {self.sign} {self.asked:<5g} got {self.got:<7.4g} {verdict}"


def at_least(asked: float, got: float, what: str) -> Finding:
    return Finding(what, ">=", asked, got)


def at_most(asked: float, got: float, what: str) -> Finding:
    return Finding(what, "<=", asked, got)


def report(runs: list[dict[str, Any]]) -> str:
    """A table with a line for each thing asked, and a column for each run."""
    days = sorted({time.strftime("%Y-%m-%d", time.gmtime(one["at"])) for one in runs})
    loads = [one["load"] for one in runs]
    server = run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout.split()
    lines = [
        "# One limit for many processes: what was asked, what was got",
        "",
        f"Measured by `benchmarks/micro/cluster.py` on {' and '.join(days)} against the simulator.",
        f"Machine: {platform.machine()}, {os.cpu_count()} processors. Python {platform.python_version()},",
        f"redis-server {server[2].removeprefix('v=')}, redis-py {version('redis')}.",
        f"Load (one-minute average) when a scenario began: {min(loads):.1f} to {max(loads):.1f}.",
        "",
        "Figures in bold are not as asked.",
        "",
    ]
    most = max(sum(one["scenario"] == name for one in runs) for name in {one["scenario"] for one in runs})
    lines.append("| scenario | | asked | " + " | ".join(f"run {n + 1}" for n in range(most)) + " |")
    lines.append("|---" * (3 + most) + "|")
    order = list(dict.fromkeys(one["scenario"] for one in runs))
    for scenario in order:
        rows = [Finding(**f) for one in runs if one["scenario"] == scenario for f in one["found"]]
        for what in dict.fromkeys(row.what for row in rows):
            same = [row for row in rows if row.what == what]
            got = [f"{row.got:.4g}" if row.kept else f"**{row.got:.4g}**" for row in same]
            got += [""] * (most - len(got))
            sign = "≥" if same[0].sign == ">=" else "≤"
            lines.append(f"| {scenario} | {what} | {sign} {same[0].asked:g} | " + " | ".join(got) + " |")
    return "\n".join(lines) + "\n"
