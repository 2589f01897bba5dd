"""Results of a bulk job: one JSON line each, in the shape of Message Batches results.

::

    {"custom_id": "a", "result": {"type": "succeeded", "message": {…}}}
    {"custom_id": "b", "result": {"type": "errored", "error": {"type": "error", "error": {…}, …}}}
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import orjson

from claude_executor import Failed, Kind, Stopped, TooLarge

if TYPE_CHECKING:
    from anthropic.types import Message

_TYPES: Mapping[Kind, str] = {
    Kind.QUOTA: "rate_limit_error",
    Kind.RAMP: "rate_limit_error",
    Kind.SPEND_LIMIT: "rate_limit_error",
    Kind.BILLING: "billing_error",
    Kind.AUTHENTICATION: "authentication_error",
    Kind.PERMISSION: "permission_error",
    Kind.NOT_FOUND: "not_found_error",
    Kind.INVALID: "invalid_request_error",
    Kind.TOO_LARGE: "invalid_request_error",
    Kind.OVERLOADED: "overloaded_error",
    Kind.TIMEOUT: "timeout_error",
}
"""The API's own words for what went wrong; everything else is an ``api_error``."""


def succeeded(custom_id: str, message: "Message", extras: Mapping[str, object]) -> bytes:
    """The line of a row that was answered."""
    return _line(custom_id, {"type": "succeeded", "message": message.to_dict()}, extras)


def errored(custom_id: str, error: Exception, extras: Mapping[str, object]) -> bytes:
    """The line of a row that was not."""
    body: dict[str, object] = {
        "type": "error",
        "error": {"type": error_type(error), "message": str(error)},
        "request_id": error.request_id if isinstance(error, Failed) else None,
    }
    return _line(custom_id, {"type": "errored", "error": body}, extras)


def error_type(error: Exception) -> str:
    """What the API calls an error of this kind."""
    if isinstance(error, (Failed, Stopped)):
        said = getattr(error.__cause__, "type", None)
        return said if isinstance(said, str) else _TYPES.get(error.kind, "api_error")
    if isinstance(error, (ValueError, TypeError, TooLarge)):
        return "invalid_request_error"
    return "api_error"


def _line(custom_id: str, result: Mapping[str, object], extras: Mapping[str, object]) -> bytes:
    line = {"custom_id": custom_id, "result": result, **extras}
    try:
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # half a surrogate pair, which JSON can hold as an escape and UTF-8 cannot
        return json.dumps(line).encode() + b"\n"


class Results:
    """A results file that is being written: each line goes to the operating system as it comes."""

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        """Open the file.

        Raises:
            FileExistsError: It is there already, and `overwrite` is false.
            OSError: It cannot be written.
        """
        self.path = path
        self._file: BinaryIO = path.open("wb" if overwrite else "xb")
        self._ours = not overwrite

    def write(self, line: bytes) -> None:
        """Add a line.

        Raises:
            OSError: It could not be written, be it because the disk is full.
        """
        self._ours = False
        self._file.write(line)
        self._file.flush()

    def close(self) -> None:
        """Close the file; if there is nothing in it and it is new, take it away again."""
        with suppress(OSError):  # what could not be written was already told by `write`
            self._file.close()
            if self._ours:
                self.path.unlink()


class InOrder:
    """Puts results into the order of the rows again, and says how far the writing has come.

    Attributes:
        written: Rows, from the first one on, that have been passed on.
    """

    def __init__(self) -> None:
        self.written = 0
        self._early: dict[int, bytes] = {}

    def put(self, index: int, line: bytes) -> list[bytes]:
        """Take one result; those that can be written now."""
        self._early[index] = line
        ready: list[bytes] = []
        while (line_or_none := self._early.pop(self.written, None)) is not None:
            ready.append(line_or_none)
            self.written += 1
        return ready

    def rest(self) -> list[bytes]:
        """What is left at the end of a run that was cut short, with gaps."""
        return [self._early.pop(index) for index in sorted(self._early)]
