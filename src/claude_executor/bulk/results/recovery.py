"""Repairs the end of a results file after a crash."""

import os
from pathlib import Path

from claude_executor.bulk.results.line import NotResults, begins_like_a_result, is_whole

_READ_AT_ONCE = 1 << 20


def repair(path: Path) -> None:
    """Cut off half a line at the end of a file; complete a whole one that lacks only its line end.

    Raises:
        NotResults: The file does not end with a whole line, and does not begin like results.
        OSError: It cannot be read or written.
    """
    with path.open("r+b") as file:
        first = file.readline()
        start = size = file.seek(0, os.SEEK_END)
        tail = b""
        while start > 0 and b"\n" not in tail:
            step = min(start, _READ_AT_ONCE)
            start -= step
            file.seek(start)
            tail = file.read(step) + tail
        last = tail[tail.rfind(b"\n") + 1 :]
        if not last:
            return
        if not begins_like_a_result(first):
            raise NotResults(path, 1, "it does not look like a result")
        if is_whole(last):
            file.seek(size)
            file.write(b"\n")
        else:
            file.truncate(size - len(last))
