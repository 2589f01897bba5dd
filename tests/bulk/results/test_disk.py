"""`DiskReserve`: space for answers in flight; symbolic links lead to the file itself."""

import errno
import os
from pathlib import Path

import pytest

from claude_executor.bulk.results.disk import DiskReserve, resolve_symlink


def test_room_that_is_kept_is_no_file_that_could_stay_behind(tmp_path):
    """Nobody sees it, and it is given back once."""
    reserve = DiskReserve(tmp_path)
    assert not reserve.release()
    reserve.hold()
    assert list(tmp_path.iterdir()) == []
    assert reserve.release()
    assert not reserve.release()


@pytest.mark.parametrize(("number", "is_full"), [(errno.ENOSPC, True), (errno.EOPNOTSUPP, False)])
def test_no_room_is_told_and_a_system_that_cannot_keep_any_is_not(tmp_path, monkeypatch, number, is_full):
    """Some file systems know of no such thing."""

    def fail(*_):
        raise OSError(number, "no")

    monkeypatch.setattr(os, "posix_fallocate", fail, raising=False)
    reserve = DiskReserve(tmp_path)
    if is_full:
        with pytest.raises(OSError, match=r"no \(4 MB must be free"):
            reserve.hold()
    else:
        reserve.hold()
        assert not reserve.release()


def test_only_a_full_disk_uses_it_up_and_only_once(tmp_path):
    """The error that did is kept for those who wait for the end."""
    full, broken = OSError(errno.EDQUOT, "quota"), OSError(errno.EIO, "broken")
    reserve = DiskReserve(tmp_path)
    assert not reserve.make_room(full)
    reserve.hold()
    assert not reserve.make_room(broken)
    assert reserve.full is None
    assert reserve.make_room(full)
    assert reserve.full is full
    assert not reserve.make_room(full)


@pytest.mark.parametrize("device", ["/dev/stdout", "/dev/null"])
def test_a_link_leads_to_its_file_but_for_devices(tmp_path, device):
    """One that leads nowhere yet, too."""
    file, link = tmp_path / "file", tmp_path / "link"
    link.symlink_to(file)
    assert resolve_symlink(link) == file
    assert resolve_symlink(file) == file
    if Path(device).exists() and not Path(device).is_file():
        assert resolve_symlink(Path(device)) == Path(device)
