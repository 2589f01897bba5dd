"""Result lines: the shape of Message Batches results, with one field of ours.

::

    {"custom_id": "a", "result": {"type": "succeeded", "message": {…}}, "executor": {"hash": …, "at": …}}
    {"custom_id": "b", "result": {"type": "errored", "error": {"type": "error", …}}, "executor": {…}}

``executor`` says what the next start must know, the hash of the request, and how the row went: ``at`` (Unix
time), ``attempts``, ``waited`` and ``took`` (seconds), ``copy_of`` (the row whose answer this is).
"""

import json
import re
import sys
from array import array
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import orjson

from claude_executor import Failed, FailureKind, Params, Result, Stopped, TooLarge

if TYPE_CHECKING:
    from anthropic.types import Message

_TYPES: Mapping[FailureKind, str] = {
    FailureKind.QUOTA: "rate_limit_error",
    FailureKind.RAMP: "rate_limit_error",
    FailureKind.SPEND_LIMIT: "rate_limit_error",
    FailureKind.BILLING: "billing_error",
    FailureKind.AUTHENTICATION: "authentication_error",
    FailureKind.PERMISSION: "permission_error",
    FailureKind.NOT_FOUND: "not_found_error",
    FailureKind.INVALID: "invalid_request_error",
    FailureKind.TOO_LARGE: "invalid_request_error",
    FailureKind.OVERLOADED: "overloaded_error",
    FailureKind.TIMEOUT: "timeout_error",
}
"""The API's own words for what went wrong; everything else is an ``api_error``."""

_FINAL = frozenset(
    {
        "authentication_error",
        "billing_error",
        "invalid_request_error",
        "not_found_error",
        "permission_error",
        "request_too_large",
    }
)
"""What the same request will meet again, unless a person mends something first."""

# A line of our own making is not read as a whole: only its beginning and its end. Neither of these can occur
# inside a text, where quotation marks are escaped.
_BEGINNING = re.compile(rb'\{"custom_id":"([^"\\]+)","result":\{"type":"succeeded"')
_MARK = b',"executor":{"hash":"'
_ANY_LINE = b'{"custom_id":'
_BEFORE_ID, _AFTER_ID = b'{"custom_id":"', b'","result":{"type":"succeeded"'
"""The same for who reads many lines: a regular expression takes twice as long."""
_HASH_DIGITS = 16
_DIGITS = re.compile(rb'([0-9a-fA-F]{16})"')
_HASH = re.compile(r"[0-9a-fA-F]{1,16}")
_NOTHING_HASHED = blake2b(digest_size=8)
_LONGEST_MARK = 300


class NotAResult(ValueError):
    """A line is no result. The message says why, and quotes nothing of it."""


class NotResults(Exception):
    """A file holds something else than results."""

    def __init__(self, path: Path, line: int, why: str) -> None:
        super().__init__(
            f"{path} is no results file (line {line}: {why}); if it is one, mend or take out that line; "
            "otherwise name another with -o (--force throws it all away)"
        )


class ResultEntry(NamedTuple):
    """What a start must know of a result line.

    Attributes:
        custom_id: Whose result it is.
        hash: What was asked; `None` in results that somebody else made.
        answered: Whether it is an answer.
        final: Whether it is settled: an answer, or a failure that trying again will not mend.
    """

    custom_id: str
    hash: int | None
    answered: bool
    final: bool


class Provenance(NamedTuple):
    """The field of ours.

    Attributes:
        hash: Hash of the request.
        at: When the row was done, in Unix time.
        attempts: Requests sent for it, if known.
        waited: Seconds it waited for its turn, if known.
        took: Seconds its last attempt took, if known.
        copy_of: The row that was sent in its place, if one was.
    """

    hash: int
    at: float
    attempts: int | None = None
    waited: float | None = None
    took: float | None = None
    copy_of: str | None = None

    @classmethod
    def of(cls, result: Result, hash_: int, at: float) -> "Provenance":
        """What is known of how a request went."""
        error = result.error
        attempts = error.attempts if isinstance(error, Failed) else result.attempts
        return cls(hash_, at, attempts, result.queue_time, result.duration)

    def as_dict(self) -> dict[str, object]:
        """The field as it is written; what is not known is left out."""
        fields: dict[str, object] = {"hash": f"{self.hash:016x}", "at": round(self.at, 3)}
        if self.attempts:
            fields["attempts"] = self.attempts
        for name, seconds in (("waited", self.waited), ("took", self.took)):
            if seconds is not None:
                fields[name] = round(seconds, 3)
        if self.copy_of is not None:
            fields["copy_of"] = self.copy_of
        return fields


def hash_of(params: Params) -> int:
    """What a request is, in 64 bits: the same for equal parameters in any order.

    Raises:
        TypeError: Not all of it can be said in JSON.
    """
    try:
        text = orjson.dumps(params, _plain, orjson.OPT_SORT_KEYS)  # by name takes twice as long
    except TypeError:  # half a surrogate pair, numbers beyond 64 bits: the standard library takes more
        text = json.dumps(params, sort_keys=True, separators=(",", ":"), default=_plain).encode()
    hash_ = _NOTHING_HASHED.copy()  # takes half the time of a new one
    hash_.update(text)
    return int.from_bytes(hash_.digest())


def succeeded(
    custom_id: str, answer: "Message | Mapping[str, object]", extras: Mapping[str, object], mark: Provenance
) -> bytes:
    """The line of a row that was answered."""
    message = answer if isinstance(answer, Mapping) else answer.to_dict()
    return _line(custom_id, {"type": "succeeded", "message": message}, extras, mark)


def errored(custom_id: str, error: Exception, extras: Mapping[str, object], mark: Provenance) -> bytes:
    """The line of a row that was not."""
    body: dict[str, object] = {
        "type": "error",
        "error": {"type": error_type(error), "message": str(error)},
        "request_id": error.request_id if isinstance(error, Failed) else None,
    }
    return _line(custom_id, {"type": "errored", "error": body}, extras, mark)


def error_type(error: Exception) -> str:
    """What the API calls an error of this kind; of a row that was not even sent it has said nothing."""
    if isinstance(error, Stopped):
        return "api_error"
    if isinstance(error, (Failed, Stopped)):
        said = getattr(error.__cause__, "type", None)
        return said if isinstance(said, str) else _TYPES.get(error.kind, "api_error")
    if isinstance(error, (ValueError, TypeError, TooLarge)):
        return "invalid_request_error"
    return "api_error"


def read_entry(line: bytes) -> ResultEntry:
    """Read of a result line what a start must know.

    Raises:
        NotAResult: It is none.
    """
    beginning = _BEGINNING.match(line)
    mark = line.rfind(_MARK, -_LONGEST_MARK)
    digits = _DIGITS.match(line, mark + len(_MARK))
    # Half a line that has run together with the next has two beginnings; so may an answer that is whole.
    if beginning is None or mark < 0 or digits is None or line.find(_BEFORE_ID, 1) >= 0:
        return _read_whole(line)
    try:
        return ResultEntry(beginning[1].decode(), int(digits[1], 16), True, True)
    except ValueError:
        return _read_whole(line)


def answers_in(block: bytes, lines: list[bytes]) -> "tuple[list[str], array[int]] | None":
    """The ids and the hashes of lines that are answers; `None` if not all surely are.

    `block` is all of them in one piece. For a start, which reads a million of them: `read_entry` takes
    several times as long.
    """
    ids: list[bytes] = []
    digits: list[bytes] = []
    if block.count(_BEFORE_ID) != len(lines):  # see `read_entry`
        return None
    begin, length = len(_BEFORE_ID), len(_MARK)
    for line in lines:
        end, mark = line.find(b'"', begin), line.rfind(_MARK, -_LONGEST_MARK)
        if mark < 0 or not line.startswith(_BEFORE_ID) or not line.startswith(_AFTER_ID, end):
            return None
        ids.append(line[begin:end])
        digits.append(line[mark + length : mark + length + _HASH_DIGITS + 1])
    named, written = b"\n".join(ids), b"".join(digits)
    if b"\\" in named or written.count(b'"') != len(lines):
        return None
    written = written.replace(b'"', b"")
    try:
        hashes = array("Q", bytes.fromhex(written.decode()))
        custom_ids = named.decode().split("\n")
    except ValueError:
        return None
    if sys.byteorder == "little":
        hashes.byteswap()
    is_whole = len(hashes) == len(lines) and len(written) == _HASH_DIGITS * len(lines)
    return (custom_ids, hashes) if is_whole else None


def has_answer(lines: Iterable[bytes]) -> bool:
    """Whether any of these lines, of which the last may be torn, is an answer."""
    for line in lines:
        with suppress(NotAResult):
            # The last may be whole but for its end, which only reading all of it can show.
            read = read_entry if line.endswith(b"\n") else _read_whole
            if read(line).answered:
                return True
    return False


def begins_like_a_result(torn: bytes) -> bool:
    """Whether this, of which any part may be missing at the end, may be a line of ours."""
    return torn.startswith(_ANY_LINE) or _ANY_LINE.startswith(torn)


def _read_whole(line: bytes) -> ResultEntry:
    try:
        value = json_of(line)
        custom_id, result = value["custom_id"], value["result"]
        type_ = result["type"]
        error = result["error"] if type_ == "errored" else None
        said = error["error"]["type"] if error is not None else None
        mark = value.get("executor")
        hash_ = None if mark is None else _hash_read(mark["hash"])
    except (ValueError, TypeError, KeyError, AttributeError):
        raise NotAResult("it is not of the form of a result") from None
    if not (isinstance(custom_id, str) and isinstance(type_, str)):
        raise NotAResult("it is not of the form of a result")
    answered = type_ == "succeeded"
    return ResultEntry(custom_id, hash_, answered, answered or said in _FINAL)


def _hash_read(digits: str) -> int:
    if _HASH.fullmatch(digits) is None:
        raise ValueError
    return int(digits, 16)


def json_of(line: bytes) -> dict[str, Any]:
    """The value of a line; of one that only the standard library could write, too."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        value = json.loads(line)
    return cast("dict[str, Any]", value)


def _line(
    custom_id: str, result: Mapping[str, object], extras: Mapping[str, object], mark: Provenance
) -> bytes:
    line = {"custom_id": custom_id, "result": result, **extras, "executor": mark.as_dict()}
    try:
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # half a surrogate pair, which JSON can hold as an escape and UTF-8 cannot
        return json.dumps(line).encode() + b"\n"


def _plain(value: object) -> object:
    """What the SDK's own objects are in JSON: an answer's content may be part of the next question."""
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, object]", value))
    to_dict: Callable[[], object] | None = getattr(value, "to_dict", None)
    if to_dict is None:
        raise TypeError(f"{type(value).__name__} cannot be said in JSON")
    return to_dict()
