"""A console on standard error that survives its reader: no run ends because stderr was closed."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console


class Unread:
    """A stream whose reader may be gone; output is then discarded."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text if there is a reader."""
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream if there is a reader."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - everything else is the stream's own
        return getattr(self._stream, name)


def console() -> Console:
    """Return a console on standard error."""
    from rich.console import Console

    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]  # None if stderr was closed before the start
        return Console(stderr=True, highlight=False)
    return Console(file=cast("TextIO", Unread(sys.stderr)), highlight=False)
