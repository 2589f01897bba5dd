"""Amounts as people write them on the command line: ``20usd``, ``1.5M``, ``1h30m``."""

from __future__ import annotations

import re

import click

_DIGITS = r"(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,3}(?:_\d{3})+|\d*\.?\d+)"
"""Commas stand between thousands only: who writes ``20,50`` means a hundredth of what it would be without."""
_MONEY = re.compile(rf"(?:us)?\$?\s*{_DIGITS}\s*(?:usd|us\$|\$|dollars?)?", re.IGNORECASE)
_NUMBER = re.compile(rf"{_DIGITS}\s*([km]?)", re.IGNORECASE)
_PART = r"\s*(?:(\d+(?:\.\d+)?)\s*{})?"
_SPAN = re.compile("".join(map(_PART.format, "dhms")), re.IGNORECASE)
_SECONDS = (86_400, 3_600, 60, 1)
_TIMES = {"": 1, "k": 1_000, "m": 1_000_000}


def dollars(text: str) -> float:
    """Read an amount of US dollars, for an option."""
    found = _MONEY.fullmatch(text.strip())
    if found is None:
        what = f"{text!r} is no amount of US dollars such as 20.50usd, the only currency"
        raise click.BadParameter(what + _about_commas(text))
    return _something(text, _value(found[1]))


def number(text: str) -> int:
    """Read a whole number that may end in k or M, for an option."""
    return int(_something(text, round(_number(text))))


def rate(text: str) -> float:
    """Read a number that may have parts and may end in k or M, for an option."""
    return _something(text, _number(text))


def _number(text: str) -> float:
    found = _NUMBER.fullmatch(text.strip())
    if found is None:
        what = f"{text!r} is no number such as 200000, 200k or 1.5M"
        raise click.BadParameter(what + _about_commas(text))
    return _value(found[1]) * _TIMES[found[2].lower()]


def seconds(text: str) -> float:
    """Read a span of time, for an option."""
    found = _SPAN.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        raise click.BadParameter(f"{text!r} is no span of time such as 90s, 45m, 2h or 1h30m")
    parts = zip(found.groups(), _SECONDS, strict=True)
    return _something(text, sum(float(part) * each for part, each in parts if part))


def _value(digits: str) -> float:
    return float(re.sub("[,_]", "", digits))


def _about_commas(text: str) -> str:
    return "; a comma stands between thousands only (1,000), parts come after a point" if "," in text else ""


def _something(text: str, value: float) -> float:
    if value <= 0:
        raise click.BadParameter(f"{text!r} is nothing; leave it out, or allow more")
    return value
