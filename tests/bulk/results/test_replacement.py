"""`Replacement`: old answers stay in place until a new one is on disk."""

import errno
from pathlib import Path

import pytest

from claude_executor.bulk.results.line import Provenance, errored, succeeded
from claude_executor.bulk.results.replacement import Replacement

MARK = Provenance(7, 1.0)
OLD = succeeded("a", {"id": "old"}, {}, MARK)
NEW = succeeded("a", {"id": "new"}, {}, MARK)
FAILED = errored("a", ValueError("no"), {}, MARK)


@pytest.fixture
def path(tmp_path):
    """A results file with an answer."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(OLD)
    path.chmod(0o640)
    return path


@pytest.fixture
def replacement(path):
    """Nothing is staged yet."""
    return Replacement(path)


def write(replacement, text):
    """Append to the lines, wherever they are, and say so."""
    with replacement.location.open("ab") as file:
        file.write(text)
    return replacement.note(text)


def test_making_one_reads_and_writes_nothing(tmp_path):
    """There need not even be a directory."""
    replacement = Replacement(tmp_path / "nowhere" / "r.jsonl")
    assert replacement.location == replacement.path
    assert not replacement.untouched


def test_the_first_answer_replaces_the_old_lines(replacement, path):
    """A failure does not; the new file may be read by those who could read the old one."""
    replacement.stage()
    assert (replacement.location, replacement.untouched) == (replacement.staged, True)
    assert write(replacement, FAILED) is None
    assert path.read_bytes() == OLD
    assert write(replacement, NEW) == path
    assert (path.read_bytes(), replacement.untouched) == (FAILED + NEW, False)
    assert path.stat().st_mode & 0o777 == 0o640
    assert write(replacement, NEW) is None
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize(("staged", "left"), [(FAILED, OLD), (NEW, NEW), (NEW[:-9], OLD), (b"", OLD)])
@pytest.mark.parametrize("how", ["killed", "settled"])
def test_what_was_staged_is_settled_by_its_answers(path, how, staged, left):
    """At once if the process ends well, and at the next start if it was killed."""
    replacement = Replacement(path)
    replacement.stage()
    replacement.staged.write_bytes(staged)
    if how == "killed":
        Replacement(path).recover()
    else:
        replacement.settle()
    assert path.read_bytes() == left
    assert [*path.parent.iterdir()] == [path]


def test_settling_leaves_alone_what_is_in_its_place(replacement, path):
    """Nothing was staged."""
    replacement.settle()
    assert path.read_bytes() == OLD


def test_a_file_that_may_not_be_written_is_not_replaced(replacement, path, monkeypatch):
    """Even where the directory would allow it."""

    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(PermissionError):
        replacement.stage()
    assert [*path.parent.iterdir()] == [path]


def test_what_is_stuck_is_not_staged_over(replacement, path, monkeypatch):
    """Answers that could not take their place are where the next ones would go."""

    def refuse(*_):
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(Replacement, "take_place", refuse)
    replacement.stage()
    assert write(replacement, NEW) == replacement.staged
    later = Replacement(path)
    later.recover()
    assert (later.location, later.stuck.errno) == (replacement.staged, errno.EBUSY)
    with pytest.raises(OSError, match="busy"):
        later.stage()
    assert (path.read_bytes(), later.staged.read_bytes()) == (OLD, NEW)


def test_a_copy_that_was_interrupted_is_repeated(replacement, path, monkeypatch):
    """Where a file cannot be renamed over another: the staged one stays until the copy is complete."""
    replace, fail = Path.replace, [True]

    def refuse(self, to):
        if to == path:
            raise OSError(errno.EBUSY, "Device or resource busy")
        return replace(self, to)

    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr("os.fsync", lambda _: fail and (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
    replacement.stage()
    write(replacement, NEW)
    assert replacement.staged.read_bytes() == NEW
    fail.clear()
    Replacement(path).recover()
    assert path.read_bytes() == NEW
    assert [*path.parent.iterdir()] == [path]


def test_a_rewrite_may_read_what_it_replaces(replacement, path):
    """Lines are taken out of the file while the next is written."""
    path.write_bytes(OLD + NEW)
    with path.open("rb") as lines:
        replacement.rewrite(line for line in lines if b"new" in line)
    assert path.read_bytes() == NEW
    assert path.stat().st_mode & 0o777 == 0o640
    assert [*path.parent.iterdir()] == [path]


def test_a_rewrite_of_staged_lines_stays_staged(replacement, path):
    """They have no answer yet."""
    replacement.stage()
    write(replacement, FAILED + FAILED)
    replacement.rewrite([FAILED])
    assert (path.read_bytes(), replacement.staged.read_bytes()) == (OLD, FAILED)
