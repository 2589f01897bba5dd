"""Standard error for people, who may be gone: no job ends because nobody reads what is said about it."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console


class Unread:
    """A stream that may be closed at its other end: then what is written is dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write it, if anybody is there."""
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand it on, if anybody is there."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - all else is the stream's own
        return getattr(self._stream, name)


def console() -> Console:
    """A console on standard error."""
    from rich.console import Console

    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]  # so it is when it was closed before the start
        return Console(stderr=True, highlight=False)
    return Console(file=cast("TextIO", Unread(sys.stderr)), highlight=False)
