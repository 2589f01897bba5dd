"""The results file: what counts is on disk, what a crash leaves is repaired, and there is one writer."""

import asyncio
import errno
import os
import resource
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest

from claude_executor.bulk import FileBusy, NotResults, ResultsFile
from claude_executor.bulk.results import writer
from claude_executor.bulk.results.disk import DiskReserve
from claude_executor.bulk.results.line import Provenance, ResultLine, succeeded
from claude_executor.bulk.results.replacement import Replacement

MESSAGE = {"id": "m", "content": []}


def line_of(custom_id: str, **extras: object) -> bytes:
    """A result line."""
    return succeeded(custom_id, MESSAGE, extras, Provenance(7, 1.0))


@pytest.fixture
def target(tmp_path):
    """A results file with three results."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"".join(line_of(name) for name in "abc"))
    return path


def ids_in(path) -> list[str]:
    """Whose results are in a file."""
    return [orjson.loads(line)["custom_id"] for line in path.read_bytes().splitlines()]


async def test_a_line_counts_when_it_is_synced(tmp_path, monkeypatch):
    """A group is told when `fsync` has returned, not before; the event loop goes on meanwhile."""
    synced, go = 0, threading.Event()

    def sync(file):
        nonlocal synced
        go.wait(10)
        synced += 1

    with ResultsFile.open(tmp_path / "r.jsonl") as results:
        monkeypatch.setattr(os, "fsync", sync)
        group = results.add(line_of("a"))
        assert results.add(line_of("b")) is group
        await asyncio.sleep(0.05)
        assert not group.done()
        go.set()
        await group
        assert synced == 1
        assert ids_in(results.path) == ["a", "b"]


async def test_groups_are_of_a_hundred_lines_or_a_tenth_of_a_second(tmp_path, monkeypatch):
    """One sync for many lines."""
    syncs: list[float] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(os, "fsync", lambda file: syncs.append(loop.time()))
    with ResultsFile.open(tmp_path / "r.jsonl") as results:
        del syncs[:]
        began = loop.time()
        for number in range(100):
            results.add(line_of(f"{number}"))
        await results.add(line_of("next"))
        await asyncio.sleep(1)
        await results.add(line_of("last"))
    assert [round(at - began, 3) for at in syncs] == [0.0, 1.1]


@pytest.mark.parametrize(
    "torn", [line_of("d")[:-9], b'{"custom_id":"d","result":{"type":"succ', b"{", b"\0\0\0\0"]
)
def test_a_torn_last_line_is_cut_off(target, torn):
    """The beginning of a line, as a crash leaves it, is gone before anything is added."""
    whole = target.read_bytes()
    target.write_bytes(whole + torn)
    with ResultsFile.open(target) as results:
        assert target.read_bytes() == whole
        assert results.end == len(whole)


def test_a_last_line_without_its_end_is_completed(target):
    """A whole result that only lacks its line end is not thrown away."""
    whole = target.read_bytes()
    target.write_bytes(whole[:-1])
    with ResultsFile.open(target):
        assert target.read_bytes() == whole


def test_a_file_that_is_nothing_but_a_torn_line_is_ours(tmp_path):
    """A crash in the first write leaves a file to begin anew; the same length of something else is left."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"custom_id":"a","resu')
    with ResultsFile.open(path):
        assert path.read_bytes() == b""


@pytest.mark.parametrize("text", [b"precious", b"first line\nprecious", b'{"custom":1}\n{"x', b"a,b\n1,2\n"])
def test_what_is_no_results_file_is_left_alone(tmp_path, text):
    """Something else is refused, and not a byte of it is touched."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(text)
    with pytest.raises(NotResults, match=r"line 1: .*--force"), ResultsFile.open(path) as results:
        list(results.entries())
    assert path.read_bytes() == text
    assert [*path.parent.iterdir()] == [path]


def test_overwriting(target):
    """On request it begins anew."""
    with ResultsFile.open(target, overwrite=True) as results:
        assert list(results.entries()) == []


def test_results_of_others_are_results(tmp_path):
    """Lines from the Message Batches API, and lines written with spaces, are understood."""
    batch = b'{"custom_id": "a", "result": {"type": "succeeded", "message": {}}}\n'
    assert ResultLine.glance(batch) == ("a", None, True, True)
    assert ResultLine.glance(b'{"custom_id":"a","result":{"type":"expired"}}') == ("a", None, False, False)
    odd = line_of('say "a"', executor_like=',"executor":{"hash":"0000000000000000"')
    assert ResultLine.glance(odd) == ('say "a"', 7, True, True)
    assert ResultLine.glance(line_of("\ud800")) == ("\ud800", 7, True, True)


def test_a_rewrite_is_all_or_nothing(target, monkeypatch):
    """When the new file cannot be written, the old one is as it was, and nothing is left beside it."""
    before = target.read_bytes()

    def full(file):
        raise OSError(28, "No space left on device")

    with ResultsFile.open(target) as results:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            results.rewrite([line_of("a"), line_of("c")])
        monkeypatch.undo()
        assert target.read_bytes() == before
        assert sorted(path.name for path in target.parent.iterdir()) == ["r.jsonl", "r.jsonl.lock"]
        results.rewrite([line_of("a"), line_of("c")])
        assert ids_in(target) == ["a", "c"]
    assert [*target.parent.iterdir()] == [target]


async def test_lines_are_added_after_a_rewrite(target):
    """What is added after a rewrite is in the new file, at the place that is told."""
    with ResultsFile.open(target) as results:
        results.rewrite([line_of("b"), line_of("c")])
        place = results.end
        await results.add(line_of("d"))
        assert next(results.read([place])) == line_of("d")
    assert ids_in(target) == ["b", "c", "d"]


async def test_a_disk_that_fills_up_leaves_whole_lines(tmp_path):
    """Of a group that fits in part the whole lines stay and the torn one goes; none of them counts."""
    path = tmp_path / "r.jsonl"
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    lines = [line_of(f"{number}") for number in range(50)]
    with ResultsFile.open(path) as results:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10 * len(lines[0]) + 9, old[1]))
        try:
            groups = {results.add(line) for line in lines}
            with pytest.raises(OSError, match="too large"):
                await results.flush()
            with pytest.raises(OSError, match="too large"):
                results.add(lines[0])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert all(isinstance(group.exception(), OSError) for group in groups)
    assert path.read_bytes() == b"".join(lines[:10])


def test_a_second_writer_is_refused(target):
    """Two at once: the second is told the process id of the first; afterwards it may."""
    with ResultsFile.open(target):
        with pytest.raises(FileBusy, match=f"process {os.getpid()}"):
            ResultsFile.open(target)
        assert target.read_bytes()
    with ResultsFile.open(target):
        pass


def test_a_lock_left_by_a_killed_process_is_free(target):
    """The lock of a process that was killed holds up nobody, whatever its file says."""
    code = (
        "import os, pathlib, signal, sys\n"
        "from claude_executor.bulk import ResultsFile\n"
        "results = ResultsFile.open(pathlib.Path(sys.argv[1]))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert target.with_name("r.jsonl.lock").exists()
    with ResultsFile.open(target):
        pass
    assert not target.with_name("r.jsonl.lock").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs locks")
def test_a_link_and_its_file_have_one_lock(target, tmp_path):
    """Whoever writes it by another name is another writer; a link that leads nowhere yet is a new file."""
    link = tmp_path / "link.jsonl"
    link.symlink_to(target)
    with ResultsFile.open(link) as results:
        assert results.path == target
        with pytest.raises(FileBusy):
            ResultsFile.open(target)
    fresh = tmp_path / "fresh.jsonl"
    link.unlink()
    link.symlink_to(fresh)
    with ResultsFile.open(link) as results:
        results.rewrite([line_of("a")])
    assert link.is_symlink()
    assert ids_in(fresh) == ["a"]


def test_when_all_tasks_are_cancelled_it_does_not_wait_for_its_own(tmp_path):
    """As when something ends the event loop: what was added is written, and the end comes."""
    path = tmp_path / "r.jsonl"

    async def end():
        with ResultsFile.open(path) as results:
            results.add(line_of("a"))
            asyncio.get_running_loop().call_soon(sys.exit, 7)  # before the writer has begun
            try:
                await asyncio.sleep(60)
            finally:
                results.add(line_of("b"))
                async with asyncio.timeout(20):
                    await results.flush()

    with pytest.raises(SystemExit):
        asyncio.run(end())
    assert ids_in(path) == ["a", "b"]


async def test_what_is_in_flight_when_the_disk_is_full_still_finds_room(tmp_path, monkeypatch):
    """Room was kept for it. Who feeds the file is told at once, and at the end the error comes."""
    path, told, full, write = tmp_path / "r.jsonl", [], [True], os.write
    give_back = DiskReserve.release

    def write_if_there_is_room(file, data):
        if full[0] and file == results._log._file:
            if len(data) > 10:
                return write(file, data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data)

    def make_room(spare):
        full[0] = False
        return give_back(spare)

    with ResultsFile.open(path) as results:
        results.keep_reserve(lambda: told.append(True))
        monkeypatch.setattr(os, "write", write_if_there_is_room)
        monkeypatch.setattr(DiskReserve, "release", make_room)
        await results.add(line_of("b"))
        assert told
        await results.add(line_of("c"))
        with pytest.raises(OSError, match="No space"):
            await results.flush()
        full[0] = True
        with pytest.raises(OSError, match="No space"):  # room is kept once
            await results.add(line_of("d"))
    monkeypatch.undo()
    assert ids_in(path) == ["b", "c"]


@pytest.fixture
def immovable(monkeypatch):
    """Nothing can take the place of a results file by its name, as where it is mounted by itself."""
    replace = Path.replace

    def refuse(path, target):
        if path.suffix == ".staged":
            raise OSError(errno.EBUSY, "Device or resource busy", str(path))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", refuse)


@pytest.mark.usefixtures("immovable")
async def test_results_that_cannot_be_renamed_over_are_begun_anew_all_the_same(target):
    """The first answer is copied into the old file, and what comes then is added to that."""
    with ResultsFile.open(target, overwrite=True) as results:
        await results.add(line_of("new"))
        assert ids_in(target) == ["new"]
        await results.add(line_of("next"))
        results.rewrite([line_of("next"), line_of("new")])
        await results.add(line_of("last"))
    assert ids_in(target) == ["next", "new", "last"]
    assert [*target.parent.iterdir()] == [target]
    with ResultsFile.open(target) as results:
        assert results.stuck is None


@pytest.mark.usefixtures("immovable")
async def test_new_results_stay_beside_the_old_ones_where_these_cannot_be_written(target, monkeypatch):
    """Nothing is lost, the lock is free, the next starts go on there, and take the place when they can."""
    fail = [True]
    copy = shutil.copyfileobj

    def copy_if_there_is_room(*files):
        if fail[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        copy(*files)

    monkeypatch.setattr(shutil, "copyfileobj", copy_if_there_is_room)
    with ResultsFile.open(target, overwrite=True) as results:
        await results.add(line_of("new"))
        assert results.stuck is not None
        await results.add(line_of("next"))
    with ResultsFile.open(target) as results:
        assert [entry.custom_id for _, entry in results.entries()] == ["new", "next"]
        await results.add(line_of("last"))
        assert ids_in(results.location) == ["new", "next", "last"]
    with pytest.raises(OSError, match="No space"), ResultsFile.open(target, overwrite=True):
        pass
    fail[0] = False
    with ResultsFile.open(target):
        assert ids_in(target) == ["new", "next", "last"]
    assert [*target.parent.iterdir()] == [target]


async def test_the_lock_is_free_although_closing_fails(target, monkeypatch):
    """Whatever becomes of what was begun anew, the next start is not refused for a process that is done."""

    def fail(*_, **__):
        raise OSError(errno.EPERM, "Operation not permitted")

    results = ResultsFile.open(target, overwrite=True)
    monkeypatch.setattr(Path, "unlink", fail)
    with pytest.raises(OSError, match="not permitted"):
        results.close()
    monkeypatch.undo()
    with ResultsFile.open(target) as results:
        assert ids_in(target) == ["a", "b", "c"]


async def test_lines_that_wait_for_their_group_are_written_when_it_is_closed(tmp_path):
    """As after an abort, when nobody waits any more."""
    path = tmp_path / "r.jsonl"
    with ResultsFile.open(path) as results:
        results.add(line_of("a"))
    assert ids_in(path) == ["a"]


async def test_what_cannot_be_written_when_it_is_closed_is_told(tmp_path, monkeypatch):
    """It is not lost in silence, and the lock is free."""
    path = tmp_path / "r.jsonl"

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    results = ResultsFile.open(path)
    results.add(line_of("a"))
    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(OSError, match="Input/output"):
        results.close()
    monkeypatch.undo()
    with ResultsFile.open(path):
        pass


async def test_a_group_whose_writer_was_cancelled_is_not_lost(tmp_path):
    """While its thread had not yet begun: the next writer writes it, and tells."""
    path, go, loop = tmp_path / "r.jsonl", threading.Event(), asyncio.get_running_loop()
    pool = ThreadPoolExecutor(1)
    loop.set_default_executor(pool)
    with ResultsFile.open(path) as results:
        pool.submit(go.wait, 10)
        group = results.add(line_of("a"))
        await asyncio.sleep(0.5)
        results._log._writer.cancel()
        await asyncio.sleep(0)
        later = results.add(line_of("b"))
        go.set()
        await results.flush()
        assert group.done()
        assert later.done()
        assert ids_in(path) == ["a", "b"]
    assert ids_in(path) == ["a", "b"]


def test_an_answer_that_was_begun_anew_counts_without_its_line_end(target):
    """It is whole, and was paid for; a torn one is none."""
    beside = target.with_name(target.name + ".staged")
    beside.write_bytes(line_of("new")[:-3])
    with ResultsFile.open(target):
        assert ids_in(target) == ["a", "b", "c"]
    assert not beside.exists()
    beside.write_bytes(line_of("new")[:-1])
    with ResultsFile.open(target):
        assert target.read_bytes() == line_of("new")
    assert not beside.exists()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("text", [b"my notes\n", b"my notes", b'{"custom":1}\n' + line_of("a"), b"\0\0"])
def test_a_file_of_that_name_that_is_not_ours_is_left_alone(target, text, overwrite):
    """It neither goes nor takes the place of the results, and it is said what to do."""
    beside, before = target.with_name(target.name + ".staged"), target.read_bytes()
    beside.write_bytes(text)
    with pytest.raises(FileExistsError, match=r"in the way.*move it") as told:
        ResultsFile.open(target, overwrite=overwrite)
    assert told.value.filename == str(beside)
    assert (target.read_bytes(), beside.read_bytes()) == (before, text)
    beside.unlink()
    with ResultsFile.open(target):
        pass


async def test_results_of_that_name_that_another_process_writes_are_left_alone(target):
    """They are its own."""
    beside, before = target.with_name(target.name + ".staged"), target.read_bytes()
    with ResultsFile.open(beside) as other:
        await other.add(line_of("other"))
        with pytest.raises(FileBusy, match="staged is being written"):
            ResultsFile.open(target)
        assert (target.read_bytes(), ids_in(beside)) == (before, ["other"])


def test_answers_left_beside_a_file_that_is_gone_are_not_overwritten_unanswered(target):
    """They are all there is: `overwrite` puts them in place, where they stay until it has answers."""
    answers = target.read_bytes()
    target.rename(target.with_name(target.name + ".staged"))
    with ResultsFile.open(target, overwrite=True) as results:
        assert results.untouched
        assert list(results.entries()) == []
    assert target.read_bytes() == answers
    assert [*target.parent.iterdir()] == [target]


@pytest.mark.parametrize("step", ["recover", "stage", "log"])
def test_an_opening_that_fails_leaves_everything_as_it_was(target, monkeypatch, step):
    """No lock stays, no file beside it, and nothing is changed."""
    before = target.read_bytes()

    def fail(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    where = {"recover": Replacement, "stage": Replacement, "log": writer}[step]
    monkeypatch.setattr(where, "AppendLog" if step == "log" else step, fail)
    with pytest.raises(OSError, match="Too many"):
        ResultsFile.open(target, overwrite=True)
    monkeypatch.undo()
    assert [*target.parent.iterdir()] == [target]
    with ResultsFile.open(target):
        assert target.read_bytes() == before


def test_a_new_file_stays_only_with_results(tmp_path):
    """One that was begun and got none is gone."""
    path = tmp_path / "r.jsonl"
    with ResultsFile.open(path) as results:
        assert path.exists()
        assert not results.begun
    assert list(tmp_path.iterdir()) == []
    with ResultsFile.open(path, overwrite=True) as results:
        results.rewrite([line_of("a")])
        assert results.begun
    assert ids_in(path) == ["a"]
