"""Amounts that could be read in two ways."""

import json

import click
import pytest

from claude_executor.cli.options import param_types as amounts


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
    with pytest.raises(click.BadParameter, match="commas only between thousands"):
        read(text)


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (amounts.dollars, "1,234,567.50usd", 1_234_567.5),
        (amounts.dollars, "$2,050", 2_050.0),
        (amounts.number, "1,500k", 1_500_000),
        (amounts.number, "2_000_000", 2_000_000),
        (amounts.rate, "2,000,000", 2_000_000),
    ],
)
def test_commas_between_thousands(read, text, value):
    """As people write large numbers."""
    assert read(text) == value


@pytest.mark.parametrize(
    ("option", "said", "value"),
    [("--itpm", "2M", 2_000_000), ("--itpm", "2,000,000", 2_000_000), ("--rpm", "0.5", 0.5)],
)
def test_limits_could_not_be_written_as_caps_can(invoke, option, said, value):
    """With k, M and commas; and with parts, for a limit may be less than one a minute."""
    result = invoke("limits", "--tier", "start", option, said, "--json")
    assert result.exit_code == 0, result.stderr
    resources = {"--itpm": "input tokens", "--rpm": "requests"}
    limits = [entry["limit"] for entry in json.loads(result.stdout) if entry["resource"] == resources[option]]
    assert value in limits


@pytest.mark.parametrize("option", ["--rpm", "--burst", "--weight"])
def test_nothing_a_minute_was_not_in_the_range(invoke, tmp_path, option):
    """It is told in words."""
    result = invoke("run", tmp_path / "x.jsonl", option, "0")
    assert result.exit_code == 2
    assert "must be greater than 0; omit the option for its default" in result.stderr
