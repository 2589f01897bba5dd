"""Amounts that could be read in two ways."""

import click
import pytest

from claude_executor.cli import amounts


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (amounts.dollars, "20,50usd"),
        (amounts.dollars, "20,5"),
        (amounts.dollars, "1,23,456"),
        (amounts.dollars, ",500"),
        (amounts.number, "1,5M"),
        (amounts.number, "1,0000"),
    ],
)
def test_a_comma_for_a_point_is_not_a_hundredfold(read, text):
    """It is refused, and told what commas are for."""
    with pytest.raises(click.BadParameter, match="between thousands only"):
        read(text)


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (amounts.dollars, "1,234,567.50usd", 1_234_567.5),
        (amounts.dollars, "$2,050", 2_050.0),
        (amounts.number, "1,500k", 1_500_000),
        (amounts.number, "2_000_000", 2_000_000),
    ],
)
def test_commas_between_thousands(read, text, value):
    """As people write large numbers."""
    assert read(text) == value
