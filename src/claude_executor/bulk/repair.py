"""What a crash leaves at the end of a results file: half a line is cut off, a whole one gets its line end."""

import os
from pathlib import Path

from claude_executor.bulk.results import NotResults, begins_like_a_result, json_of

_READ_AT_ONCE = 1 << 20


def repaired(file: int, path: Path) -> int:
    """Repair the file at `path`, which is open to be written as `file`; how long it is then.

    Raises:
        NotResults: It does not end with a whole line, and does not begin like results.
        OSError: It cannot be read or written.
    """
    size = os.fstat(file).st_size
    with path.open("rb") as lines:
        first = lines.readline()
        tail, start = b"", size
        while start > 0 and b"\n" not in tail:
            step = min(start, _READ_AT_ONCE)
            start -= step
            lines.seek(start)
            tail = lines.read(step) + tail
    torn = tail[tail.rfind(b"\n") + 1 :]
    if not torn:
        return size
    if not begins_like_a_result(first):
        raise NotResults(path, 1, "it is not of the form of a result")
    try:
        json_of(torn)
    except ValueError:
        os.ftruncate(file, size - len(torn))
        return size - len(torn)
    os.write(file, b"\n")  # whole but for its end
    return size + 1
