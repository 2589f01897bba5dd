"""The plan of a job as people and programs read it, and what ends a count."""

import json

import pytest

from claude_executor import Limits
from claude_executor.bulk import Caps, Job, NotCounted, RowDefaults
from claude_executor.cli.job import plan
from claude_executor.cli.options.connection import ConnectionOptions
from claude_executor.cli.options.job import STANDARD, JobOptions
from claude_executor.cli.options.resume_command import ResumeCommand
from claude_executor.cli.terminal.exits import CommandError


def dry_run(path, limits=None, *, as_json=False, **options):
    """Plan a file without results."""
    how = ConnectionOptions(limits if limits is not None else Limits())
    bulk = JobOptions(
        source=path, target=STANDARD, connection=how, defaults=RowDefaults(), caps=Caps(), ordered=False,
        dedupe=False, priority=0, as_json=as_json, resume_command=ResumeCommand("run", ()),
    )  # fmt: skip
    plan.dry_run(bulk, **options)


@pytest.fixture
def printed(capsys, monkeypatch):
    """What a dry run of a file prints on stdout."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(path, limits=None, **options):
        dry_run(path, limits if limits is not None else Limits.tier("start"), **options)
        told = capsys.readouterr()
        assert "secret" not in told.out + told.err
        assert told.err == ""
        return " ".join(told.out.split())

    return run


def test_plan_for_people(printed, rows_file):
    """Rows, tokens, money and time, and what each of them is worth."""
    text = printed(rows_file(2_000))
    assert "dry run: nothing was sent" in text
    assert "rows 2,000" in text
    assert "estimated from the size (--exact 100 counts some rows by the API, for free)" in text
    assert "output 60,000 (0 to 60,000) tokens" in text
    assert "cost $0.0" in text
    assert "time at least 1:00 with the given limits haiku-5.5: requests will be the limit" in text


def test_nothing_binds(printed, rows_file):
    """A small job is not held up."""
    assert "time at least 0:00 with the given limits haiku-5.5: no limit will bind" in printed(rows_file(5))


def test_long_answers_bind(printed, rows_file):
    """Where only the longest answers would bind, it is said so."""
    path = rows_file(3)
    path.write_text(path.read_text().replace('"max_tokens": 30', '"max_tokens": 3000'))
    known = {"rpm": 1_000, "itpm": 1_000_000}
    assert "haiku-5.5: output tokens will be the limit, if answers are long" in printed(
        path, Limits(**known, otpm=5_000)
    )
    assert "haiku-5.5: requests will be the limit, or output tokens if answers are long" in printed(
        path, Limits(rpm=1, itpm=1_000_000, otpm=2_000)
    )
    text = printed(path, Limits(rpm=1))
    assert "requests will be the limit; the limits of input tokens and output tokens are not known" in text


def test_unknown_limits(printed, rows_file):
    """Without limits the time is unknown, and what would tell it is named."""
    assert "time unknown: no limit known for haiku-5.5; set --tier" in printed(rows_file(5), Limits())


def test_unknown_price(printed, rows_file):
    """An unknown price is named, never 0."""
    text = printed(rows_file(5, model="claude-mythos-5"))
    assert "cost unknown: no price known for claude-mythos-5" in text
    assert "$0" not in text


def test_several_models(printed, rows_file):
    """Each model has a line, with its own price."""
    path = rows_file(5)
    other = rows_file(3, name="other.jsonl", model="claude-mythos-5").read_text().replace('"r', '"other-r')
    path.write_text(path.read_text() + other.replace("other-role", "role"))
    text = printed(path)
    assert "claude-haiku-5-5: 5 rows," in text
    assert "claude-mythos-5: 3 rows," in text
    assert "price unknown" in text


def test_cached_input_is_told(printed, tmp_path):
    """How much of the input the cache will serve."""
    block = {"type": "text", "text": "x" * 10_000, "cache_control": {"type": "ephemeral"}}
    params = {"model": "claude-haiku-5-5", "max_tokens": 5, "system": [block]}
    params["messages"] = [{"role": "user", "content": "secret"}]
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"custom_id": f"r{number}", "params": params}) for number in range(3)]
    path.write_text("\n".join(lines))
    assert "8,000 of them read from the prompt cache, 4,000 written to it" in printed(path)


def test_plan_for_programs(printed, rows_file):
    """The same numbers as JSON, alone on stdout."""
    planned = json.loads(printed(rows_file(2_000), as_json=True))
    assert planned["rows"] == 2_000
    assert planned["output_tokens"] == {"low": 0, "guess": 60_000, "high": 60_000}
    assert planned["seconds"]["guess"] == 60
    assert planned["dollars"]["low"] > 0
    assert planned["models"][0]["model"] == "claude-haiku-5-5"
    assert planned["pools"][0]["limited_by"] == "requests"
    assert planned["counted"] is None


def test_some_rows_counted(environment, printed, rows_file):
    """The API counts as many as asked for, and how sure that makes the number is told."""
    text = printed(rows_file(40), exact=10)
    assert "of the estimate: the API counted 10 rows, standard error" in text
    planned = json.loads(printed(rows_file(40), exact=10, as_json=True))
    assert planned["counted"]["models"]["claude-haiku-5-5"]["rows"] == 10


def test_all_rows_counted(environment, printed, rows_file):
    """Then there is no range any more."""
    assert "tokens, counted by the API" in printed(rows_file(5), exact=100)


@pytest.mark.parametrize("faults", [{"invalid_key": True}, {"permission_403": True}])
def test_no_access(environment, rows_file, faults):
    """Without access it is exit 3, as for a run."""
    environment.set_faults(**faults)
    with pytest.raises(CommandError, match="did not count row") as caught:
        dry_run(rows_file(5), exact=1)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(("status", "code"), [(None, 3), (529, 1), (429, 1), (413, 2)])
def test_exit_codes_of_a_failed_count(rows_file, monkeypatch, status, code):
    """Not reached is no access, overloaded is a failure, too large is bad input."""

    async def failing(*_, **__):
        raise NotCounted("r0", status, "the reason")

    monkeypatch.setattr(Job, "plan", failing)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    with pytest.raises(CommandError, match="row 'r0': the reason") as caught:
        dry_run(rows_file(5), exact=1)
    assert caught.value.exit_code == code


def test_a_row_that_cannot_be_counted(environment, rows_file):
    """An unknown model is bad input, as for a run."""
    with pytest.raises(CommandError) as caught:
        dry_run(rows_file(1, model="claude-nope"), exact=1)
    assert caught.value.exit_code == 2
