"""Values of options as people write them on the command line: ``20usd``, ``1.5M``, ``1h30m``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from claude_executor import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

_DIGITS = r"(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,3}(?:_\d{3})+|\d*\.?\d+)"
"""Commas are accepted only between thousands: ``20,50`` would otherwise be read as 2050."""
_MONEY = re.compile(rf"(?:us)?\$?\s*{_DIGITS}\s*(?:usd|us\$|\$|dollars?)?", re.IGNORECASE)
_NUMBER = re.compile(rf"{_DIGITS}\s*([km]?)", re.IGNORECASE)
_PART = r"\s*(?:(\d+(?:\.\d+)?)\s*{})?"
_SPAN = re.compile("".join(map(_PART.format, "dhms")), re.IGNORECASE)
_SECONDS = (86_400, 3_600, 60, 1)
_TIMES = {"": 1, "k": 1_000, "m": 1_000_000}


def whole(least: int | None = None, most: int | None = None) -> Callable[[object], int]:
    """Build the type of an option whose value is a whole number within bounds."""

    def whole_number(value: object) -> int:
        try:
            number = int(str(value))
        except ValueError:
            raise click.BadParameter(f"{str(value)!r} is not a whole number") from None
        if least is not None and number < least:
            raise click.BadParameter(f"must be at least {least}, not {number}")
        if most is not None and number > most:
            raise click.BadParameter(f"must be at most {most}, not {number}")
        return number

    return whole_number


def tier(text: str) -> str:
    """Read the name of a usage tier, for an option."""
    try:
        Limits.tier(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return text.lower()


def dollars(text: str) -> float:
    """Read an amount of US dollars, for an option."""
    found = _MONEY.fullmatch(text.strip())
    if found is None:
        what = f"{text!r} isn't an amount in US dollars (examples: 20, 20.50usd)"
        raise click.BadParameter(what + _about_commas(text))
    return _positive(_value(found[1]), "no limit")


def number(text: str) -> int:
    """Read a whole number that may end in k or M, for an option."""
    return int(_positive(round(_number(text)), "no limit"))


def rate(text: str) -> float:
    """Read a number that may have decimals and may end in k or M, for an option."""
    return _positive(_number(text), "its default")


def seconds(text: str) -> float:
    """Read a duration, for an option."""
    found = _SPAN.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        raise click.BadParameter(f"{text!r} isn't a duration (examples: 90s, 45m, 2h, 1h30m)")
    parts = zip(found.groups(), _SECONDS, strict=True)
    return _positive(sum(float(part) * each for part, each in parts if part), "no limit")


def _number(text: str) -> float:
    found = _NUMBER.fullmatch(text.strip())
    if found is None:
        what = f"{text!r} isn't a number (examples: 200000, 200k, 1.5M)"
        raise click.BadParameter(what + _about_commas(text))
    return _value(found[1]) * _TIMES[found[2].lower()]


def _value(digits: str) -> float:
    return float(re.sub("[,_]", "", digits))


def _about_commas(text: str) -> str:
    return (
        "; use commas only between thousands (1,000), and a point for decimals (1.5)" if "," in text else ""
    )


def _positive(value: float, otherwise: str) -> float:
    if value <= 0:
        raise click.BadParameter(f"must be greater than 0; omit the option for {otherwise}")
    return value
