"""`AppendLog`: lines in groups, each written and synced at once; the log knows nothing of what they say."""

import asyncio
import errno
import os
import threading

import pytest

from claude_executor.bulk.results.append_log import GROUP_LINES, AppendLog


@pytest.fixture
def path(tmp_path):
    """A file that does not exist yet."""
    return tmp_path / "log"


@pytest.fixture
def log(path):
    """A log that is closed in the end."""
    log = AppendLog(path)
    yield log
    log.close()


async def test_the_lines_of_a_group_share_a_future_and_a_sync(log, path, monkeypatch):
    """A hundred lines do not wait for the clock."""
    syncs = []
    monkeypatch.setattr(os, "fsync", syncs.append)
    groups = {log.add(b"%d\n" % number) for number in range(GROUP_LINES)}
    await asyncio.gather(*groups)
    assert (len(groups), len(syncs)) == (1, 1)
    assert path.read_bytes().count(b"\n") == GROUP_LINES


async def test_a_pipe_is_not_synced(path, monkeypatch):
    """A device or a pipe has nothing to sync."""
    syncs = []
    monkeypatch.setattr(os, "fsync", syncs.append)
    log = AppendLog(path, synced=False)
    await log.add(b"a\n")
    log.close()
    assert syncs == []


async def test_the_length_counts_what_is_still_to_be_written(path):
    """The offset of a line is known when it is added."""
    path.write_bytes(b"before\n")
    log = AppendLog(path)
    assert log.length == 7
    log.add(b"a\n")
    assert log.length == 9
    assert path.stat().st_size == 7
    await log.flush()
    assert path.stat().st_size == log.length == 9
    log.close()


async def test_flush_does_not_wait_for_a_group_to_fill(log, path):
    """It returns when everything is on disk, and at once when nothing was added."""
    await log.flush()
    began = asyncio.get_running_loop().time()
    log.add(b"a\n")
    await log.flush()
    assert path.read_bytes() == b"a\n"
    assert asyncio.get_running_loop().time() - began < 0.05


async def test_backpressure_holds_back_until_the_disk_has_caught_up(log, path, monkeypatch):
    """Nothing is held back before there is too much."""
    monkeypatch.setattr("claude_executor.bulk.results.append_log.MOST_UNWRITTEN", 3)
    log.add(b"a\n")
    await log.backpressure()
    assert path.read_bytes() == b""
    log.add(b"b\n")
    await log.backpressure()
    assert path.read_bytes() == b"a\nb\n"


async def test_a_log_that_has_moved_is_appended_to_where_it_is_now(path, tmp_path):
    """`on_group` sees each group once it is on disk, before its future is done, and may move the file."""
    moved, seen = tmp_path / "moved", []

    def move(text):
        seen.append((text, path.read_bytes()))
        assert not group.done()
        return path.rename(moved)

    log = AppendLog(path, on_group=lambda text: None if seen else move(text))
    group = log.add(b"a\n")
    await group
    await log.add(b"b\n")
    assert (seen, log.length) == ([(b"a\n", b"a\n")], 4)
    log.close()
    assert (path.exists(), moved.read_bytes()) == (False, b"a\nb\n")


async def test_after_an_error_nothing_is_written(log, path, monkeypatch):
    """The group fails, and so does everything after it: a later line must not stand where one is missing."""

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(OSError, match="Input/output"):
        await log.add(b"a\n")
    monkeypatch.undo()
    with pytest.raises(OSError, match="Input/output"):
        log.add(b"b\n")
    with pytest.raises(OSError, match="Input/output"):
        await log.flush()
    await log.backpressure()
    log.close()
    assert path.read_bytes() == b""


async def test_a_write_is_repeated_when_room_was_made(path, monkeypatch):
    """What was written before the disk was full is not written twice."""
    write, room = os.write, []

    def write_a_little(file, data):
        if not room and len(data) < 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[:2])

    def make_room(error):
        room.append(error.errno)
        return True

    log = AppendLog(path, make_room=make_room)
    monkeypatch.setattr(os, "write", write_a_little)
    await log.add(b"abcd\n")
    assert (path.read_bytes(), room) == (b"abcd\n", [errno.ENOSPC])
    log.close()


async def test_closing_writes_what_is_left_and_waits_for_the_thread(path, monkeypatch):
    """A group that is being written is written to its end; closing twice is closing once."""
    sync, begun, go_on = os.fsync, threading.Event(), threading.Event()

    def slowly(file):
        begun.set()
        go_on.wait(10)
        sync(file)

    monkeypatch.setattr(os, "fsync", slowly)
    log = AppendLog(path)
    log.add(b"a\n")
    await asyncio.to_thread(begun.wait, 10)
    log.add(b"b\n")
    threading.Timer(0.1, go_on.set).start()
    log.close()
    log.close()
    assert path.read_bytes() == b"a\nb\n"


async def test_a_caller_that_is_cancelled_does_not_stop_the_writing(log, path):
    """Cancelling a caller cancels the future of its group. Lines are written; later ones have their own."""
    waiting = asyncio.ensure_future(_wait_for(log.add(b"a\n")))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    await log.add(b"b\n")
    assert path.read_bytes() == b"a\nb\n"


async def _wait_for(group):
    await group
