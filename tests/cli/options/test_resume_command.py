"""Going on where it is easy to go wrong: what is said then is what helps."""

import os

import pytest

from claude_executor.bulk import Source
from claude_executor.bulk.run.timeline import timeline_of
from claude_executor.cli.job import execute as conduct

MODEL = "claude-haiku-5-5"


def test_a_retry_that_leaves_rows_without_a_result_is_no_success(environment, invoke, done):
    """As after a retry that was stopped: exit 1, and who sends them is told."""
    source, target = done
    target.write_bytes(b"".join(target.read_bytes().splitlines(keepends=True)[:-1]))
    result = invoke("retry", source)
    assert result.exit_code == 1
    assert "1 not sent yet is left out (send it with claude-executor run); nothing to do" in result.stderr
    assert invoke("run", source).exit_code == 0
    assert invoke("retry", source).exit_code == 0


def test_a_damaged_line_of_results_need_not_cost_the_others(environment, invoke, done):
    """The way out that is offered first is the one that throws nothing away."""
    source, target = done
    target.write_bytes(target.read_bytes().replace(b'"result"', b'"resu', 1))
    result = invoke("run", source)
    assert result.exit_code == 2
    assert "If it is one, fix or delete that line; otherwise choose another output with -o" in result.stderr
    assert "(--force discards everything in it)" in result.stderr


def test_results_through_a_link_stay_where_they_are(environment, invoke, done, tmp_path):
    """A rewrite does not put a file in the place of the link, and the timeline is that of the file."""
    source, target = done
    link = tmp_path / "links" / "latest.jsonl"
    link.parent.mkdir()
    link.symlink_to(target)
    source.write_text(source.read_text().replace("The secret", "Another"))
    assert invoke("run", source, "-o", link, "--on-changed", "redo").exit_code == 0
    assert link.is_symlink()
    assert target.read_bytes() == link.read_bytes()
    assert environment.verdict().requests == 8
    assert timeline_of(link) == timeline_of(target)
    assert timeline_of(target).read_text().count('"start":') == 2
    assert list(link.parent.iterdir()) == [link]


def test_an_input_that_is_damaged_on_the_way_does_not_look_as_if_nothing_was_sent(
    environment, invoke, rows_file, monkeypatch
):
    """What was answered until then is in the results, and it is said how to go on."""
    source = rows_file(5)
    whole, before = source.read_text(), source.stat()

    def damage(*_):
        good = "".join(whole.splitlines(keepends=True)[:3])
        source.write_text(good + "{broken\n".rjust(len(whole) - len(good)))
        os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))  # so that nobody sees it from outside

    monkeypatch.setattr(conduct, "import_sdk", damage)  # the last step before rows are sent
    result = invoke("run", source)
    target = source.with_name("rows.results.jsonl")
    assert result.exit_code == 1
    assert "nothing was sent" not in result.stderr
    assert f"stopped: {source}: line 4: not JSON" in result.stderr
    assert f"; 3 rows done, all of them in {target}\n" in result.stderr
    assert result.stderr.splitlines()[-1] == f"when that is fixed, resume with: claude-executor run {source}"
    assert target.read_bytes().count(b"\n") == 3


@pytest.mark.parametrize(
    "name", ["rows.timeline.jsonl", "rows.jsonl.lock", "rows.jsonl.staged", "rows.jsonl.new"]
)
def test_an_input_that_stands_where_something_of_the_results_goes_is_not_overwritten(
    environment, invoke, rows_file, name
):
    """The timeline, the lock and the files that take the place of the results are made beside them."""
    source = rows_file(2, name)
    before = source.read_bytes()
    result = invoke("run", source, "-o", source.with_name("rows.jsonl"))
    assert result.exit_code == 2
    assert "has the name of a file that belongs to" in result.stderr
    assert source.read_bytes() == before


@pytest.mark.parametrize("change", ["a line on top", "another file", "a line changed"])
def test_an_input_that_changes_after_its_check_pays_for_no_row_twice(
    environment, invoke, rows_file, monkeypatch, change
):
    """What is to be sent goes by where rows stand: with a line on top of them it would be others."""
    source = rows_file(5)
    assert invoke("run", source).exit_code == 0
    lines = source.read_text().splitlines(keepends=True)
    source.write_text("".join([*lines, lines[0].replace('"r0"', '"new"')]))

    def edit(*_):
        now = source.read_text()
        if change == "another file":
            source.rename(source.with_name("old.jsonl"))
        top = "" if change == "a line changed" else lines[1].replace('"r1"', '"top"')
        source.write_text(top + now.replace('"new"', '"now"'))
        os.utime(source, ns=(1, 1))

    monkeypatch.setattr(conduct, "import_sdk", edit)
    environment.reset()
    result = invoke("run", source)
    assert result.exit_code == 1
    assert "the file was changed after it was validated; run again" in result.stderr
    assert environment.verdict().requests == 0


def test_an_input_that_has_grown_meanwhile_is_done_as_far_as_it_was(
    environment, invoke, rows_file, monkeypatch
):
    """What was added is for the next start."""
    source = rows_file(3)
    rows = source.read_text()
    add = rows.splitlines(keepends=True)[0].replace('"r0"', '"late"')

    def appended(*_):
        opened = Source.records

        def records(self):
            yield from opened(self)
            source.write_text(rows + add)

        monkeypatch.setattr(Source, "records", records)

    monkeypatch.setattr(conduct, "import_sdk", appended)
    assert invoke("run", source).exit_code == 0
    assert environment.verdict().requests == 3


def test_an_input_that_goes_away_is_not_called_a_full_disk(environment, invoke, rows_file, monkeypatch):
    """The file that fails is the one that is named."""
    source = rows_file(5)
    monkeypatch.setattr(conduct, "import_sdk", lambda *_: source.unlink())
    result = invoke("run", source)
    assert result.exit_code == 1
    assert f"stopped: cannot read {source}: no such file or directory; 0 rows done" in result.stderr
    assert "cannot write" not in result.stderr
    assert "when there is room" not in result.stderr


def test_an_input_whose_name_begins_like_that_of_the_results_is_not_taken_for_them(
    environment, invoke, rows_file, monkeypatch
):
    """`q.jsonl` is not `q`."""
    source = rows_file(5, "q.jsonl")
    monkeypatch.setattr(conduct, "import_sdk", lambda *_: source.unlink())
    result = invoke("run", source, "-o", source.with_name("q"))
    assert f"stopped: cannot read {source}: no such file or directory; 0 rows done" in result.stderr


@pytest.mark.parametrize("name", ["p.jsonl", "p.csv"])
def test_a_line_that_is_put_on_top_is_told_to_have_moved_the_others(environment, invoke, tmp_path, name):
    """Rows without ids are named by their place: that is the reason to look for, and it is told."""
    source = tmp_path / name
    head, lines = (
        ("prompt\n", "Hi\nHo\n") if name == "p.csv" else ("", '{"prompt": "Hi"}\n{"prompt": "Ho"}\n')
    )
    source.write_text(head + lines)
    assert invoke("run", source, "-m", MODEL).exit_code == 0
    source.write_text(head + lines.splitlines()[0].replace("Hi", "New") + "\n" + lines)
    result = invoke("run", source, "-m", MODEL)
    assert result.exit_code == 2
    moved = "if you moved lines or changed -m or --max-tokens, undo that, or give rows a custom_id; otherwise"
    assert moved in result.stderr
    told = " ".join(invoke("run", "--help").output.split())
    assert "named by their place" in told
    assert "/v1/chat/completions" in told  # a shape that is taken is told


def test_rows_with_ids_that_have_changed_have_not_moved(environment, invoke, done):
    """What would lead astray is not said."""
    source, _ = done
    source.write_text(source.read_text().replace("The secret", "Another"))
    assert "moved lines" not in invoke("run", source).stderr


def test_all_that_is_to_do_is_told_once(environment, invoke, done):
    """Rows that are sent again are no others to go."""
    source, _ = done
    source.write_text(source.read_text().replace("The secret prompt 3", "Another"))
    result = invoke("run", source, "--on-changed", "redo")
    assert "3 of 4 rows are already done; 1 changed row is sent again\n" in result.stderr


@pytest.mark.parametrize("name", ["results.jsonl.gz", "results.CSV", "results.parquet"])
def test_results_are_not_written_under_a_name_of_something_else(environment, invoke, rows_file, name):
    """What is called so cannot be opened as that in the morning."""
    source = rows_file(2)
    result = invoke("run", source, "-o", source.with_name(name))
    assert result.exit_code == 2
    assert "should be named .jsonl" in result.stderr
    assert environment.verdict().requests == 0


def test_the_results_of_another_job_are_told_apart(environment, invoke, done):
    """As when a name is used twice: nothing is thrown away, and it is said before anything is sent."""
    source, target = done
    assert "also has" not in invoke("run", source).stderr
    lines = source.read_text().splitlines(keepends=True)
    bad = lines[0].replace('"r0"', '"bad"').replace(MODEL, "claude-nope")
    source.write_text("".join([*lines, bad]))
    assert invoke("run", source).exit_code == 1
    source.write_text(lines[1].replace('"r1"', '"another"') + lines[2])
    result = invoke("run", source)
    said = result.stderr.splitlines()
    assert said[0] == "1 of 2 rows are already done; 1 to go"
    assert said[1] == f"{target} also has 4 results for rows that are not in {source}"
    assert target.read_bytes().count(b"\n") == 6
