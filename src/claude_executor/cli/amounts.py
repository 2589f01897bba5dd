"""Amounts as people write them on the command line: ``20usd``, ``1.5M``, ``1h30m``."""

from __future__ import annotations

import re

import click

_MONEY = re.compile(r"(?:us)?\$?\s*([\d,]*\.?\d+)\s*(?:usd|us\$|\$|dollars?)?", re.IGNORECASE)
_NUMBER = re.compile(r"([\d,_]*\.?\d+)\s*([km]?)", re.IGNORECASE)
_PART = r"\s*(?:(\d+(?:\.\d+)?)\s*{})?"
_SPAN = re.compile("".join(map(_PART.format, "dhms")), re.IGNORECASE)
_SECONDS = (86_400, 3_600, 60, 1)
_TIMES = {"": 1, "k": 1_000, "m": 1_000_000}


def dollars(text: str) -> float:
    """Read an amount of US dollars, for an option."""
    found = _MONEY.fullmatch(text.strip())
    if found is None:
        raise click.BadParameter(f"{text!r} is no amount of US dollars such as 20usd, the only currency")
    return _something(text, float(found[1].replace(",", "")))


def number(text: str) -> int:
    """Read a whole number that may end in k or M, for an option."""
    found = _NUMBER.fullmatch(text.strip())
    if found is None:
        raise click.BadParameter(f"{text!r} is no number such as 200000, 200k or 1.5M")
    return int(_something(text, round(float(re.sub("[,_]", "", found[1])) * _TIMES[found[2].lower()])))


def seconds(text: str) -> float:
    """Read a span of time, for an option."""
    found = _SPAN.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        raise click.BadParameter(f"{text!r} is no span of time such as 90s, 45m, 2h or 1h30m")
    parts = zip(found.groups(), _SECONDS, strict=True)
    return _something(text, sum(float(part) * each for part, each in parts if part))


def _something(text: str, value: float) -> float:
    if value <= 0:
        raise click.BadParameter(f"{text!r} is nothing; leave it out, or allow more")
    return value
