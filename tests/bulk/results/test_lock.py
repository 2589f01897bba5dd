"""`FileLock`: one process at a time, and none for ever."""

import os
import sys

import pytest

from claude_executor.bulk.results.lock import FileBusy, FileLock

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs locks")


def test_a_lock_names_its_holder_and_is_gone_when_it_is_released(tmp_path):
    """The file itself is not touched, and need not exist."""
    path = tmp_path / "file"
    with FileLock(path):
        assert [one.name for one in tmp_path.iterdir()] == ["file.lock"]
        with pytest.raises(FileBusy, match=f"{path} is being written by process {os.getpid()}") as busy:
            FileLock(path)
        assert (busy.value.path, busy.value.pid) == (path, os.getpid())
    assert list(tmp_path.iterdir()) == []
    FileLock(path).release()


def test_releasing_twice_does_not_release_the_next_holder(tmp_path):
    """The second time there is nothing to release."""
    first = FileLock(tmp_path / "file")
    first.release()
    with FileLock(tmp_path / "file"):
        first.release()
        with pytest.raises(FileBusy):
            FileLock(tmp_path / "file")


def test_a_lock_file_left_behind_means_nothing(tmp_path):
    """Whatever it says, as long as nobody holds the lock."""
    (tmp_path / "file.lock").write_text("1\n")
    with FileLock(tmp_path / "file"):
        assert (tmp_path / "file.lock").read_text() == f"{os.getpid()}\n"


def test_a_holder_that_is_not_named_is_another_process(tmp_path):
    """It has the lock, and has not written its number yet."""
    with FileLock(tmp_path / "file"):
        (tmp_path / "file.lock").write_text("")
        with pytest.raises(FileBusy, match="by another process; wait") as busy:
            FileLock(tmp_path / "file")
        assert busy.value.pid is None
