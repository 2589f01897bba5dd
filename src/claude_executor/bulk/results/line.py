"""Result lines: the shape of Message Batches results, and one more field, ``executor``.

::

    {"custom_id": "a", "result": {"type": "succeeded", "message": {…}}, "executor": {"hash": …, "at": …}}
    {"custom_id": "b", "result": {"type": "errored", "error": {"type": "error", …}}, "executor": {…}}

``executor`` holds what the next start must know, the hash of the request, and how the row went; see
`Provenance`. `ResultLine` reads lines, whether this program wrote them or another.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import orjson

from claude_executor import Failed, Params, Result, Usage
from claude_executor.bulk.results.error_types import FINAL_ERRORS, error_type

if TYPE_CHECKING:
    from anthropic.types import Message

# A glance reads only the beginning and the end of a line that this program wrote. None of these marks can
# occur within a text, where quotation marks are escaped.
BEFORE_ID, AFTER_ID = b'{"custom_id":"', b'","result":{"type":"succeeded"'
BEFORE_HASH = b',"executor":{"hash":"'
LONGEST_END = 300
"""Bytes from the end of a line within which `BEFORE_HASH` is searched."""
_ANSWER = re.compile(rb'\{"custom_id":"([^"\\]+)","result":\{"type":"succeeded"')
_ANY_LINE = b'{"custom_id":'
_DIGITS = re.compile(rb'([0-9a-fA-F]{16})"')
_HASH = re.compile(r"[0-9a-fA-F]{1,16}")
_NOTHING_HASHED = blake2b(digest_size=8)
_MOST = 10**15
"""A larger number is no measurement."""
_NOT_A_RESULT = "it does not look like a result"
_NOTHING: Mapping[str, Any] = {}


class NotAResult(ValueError):
    """A line is not a result. The message says why, and quotes nothing of the line."""


class NotResults(Exception):
    """A file holds something else than results."""

    def __init__(self, path: Path, line: int, why: str) -> None:
        super().__init__(
            f"{path} is not a results file (line {line}: {why}). If it is one, fix or delete that line; "
            "otherwise choose another output with -o (--force discards everything in it)"
        )


class ResultEntry(NamedTuple):
    """The part of a result line that a start must know.

    Attributes:
        custom_id: The row that the result belongs to.
        hash: The hash of its request; `None` in results that another program wrote.
        answered: Whether the result is an answer.
        final: Whether the row is settled: by an answer, or by a failure that another try would meet again.
    """

    custom_id: str
    hash: int | None
    answered: bool
    final: bool


class Provenance(NamedTuple):
    """The field ``executor`` of a result line.

    Attributes:
        hash: Hash of the request.
        at: When the row was done, in Unix time.
        attempts: Requests sent for the row, if known.
        queue_time: Seconds the row waited for its turn, if known.
        duration: Seconds its last attempt took, if known.
        copy_of: The row that was sent in its place, if one was.
    """

    hash: int
    at: float
    attempts: int | None = None
    queue_time: float | None = None
    duration: float | None = None
    copy_of: str | None = None

    @classmethod
    def of(cls, result: Result, hash_: int, at: float) -> "Provenance":
        """Return how a request went."""
        error = result.error
        attempts = error.attempts if isinstance(error, Failed) else result.attempts
        return cls(hash_, at, attempts, result.queue_time, result.duration)

    def as_dict(self) -> dict[str, object]:
        """Return the field as it is written. Unknown values are left out."""
        fields: dict[str, object] = {"hash": f"{self.hash:016x}", "at": round(self.at, 3)}
        if self.attempts:
            fields["attempts"] = self.attempts
        for name, seconds in (("queue_time", self.queue_time), ("duration", self.duration)):
            if seconds is not None:
                fields[name] = round(seconds, 3)
        if self.copy_of is not None:
            fields["copy_of"] = self.copy_of
        return fields


class ResultLine:
    """A result line, parsed.

    Another program may have written the line, or a person may have edited it: a column is empty if its field
    is missing or of the wrong type. `entry` is strict instead.

    Attributes:
        type: ``"succeeded"``, ``"errored"``, or in Message Batches ``"canceled"`` or ``"expired"``.
        message: The answer, if there is one.
    """

    __slots__ = ("_executor", "_result", "_value", "message", "type")

    def __init__(self, value: Mapping[str, Any]) -> None:
        """Take over the value of a line, which must have a result of some type."""
        self._value = value
        self._result = result = value["result"]
        self._executor = _mapping(value.get("executor"))
        self.type = str(result["type"])
        message = result.get("message")
        self.message: dict[str, Any] | None = message if message.__class__ is dict else None

    @staticmethod
    def glance(line: bytes) -> ResultEntry:
        """Read only what a start must know; a line that this program wrote is not parsed for that.

        Raises:
            NotAResult: The line is not a result.
        """
        beginning = _ANSWER.match(line)
        mark = line.rfind(BEFORE_HASH, -LONGEST_END)
        digits = _DIGITS.match(line, mark + len(BEFORE_HASH))
        # Half a line that has run together with the next has two beginnings; so may a complete answer.
        if beginning is None or mark < 0 or digits is None or line.find(BEFORE_ID, 1) >= 0:
            return ResultLine.parse(line).entry()
        try:
            return ResultEntry(beginning[1].decode(), int(digits[1], 16), True, True)
        except ValueError:
            return ResultLine.parse(line).entry()

    @classmethod
    def parse(cls, line: bytes) -> "ResultLine":
        """Read all of a line.

        Raises:
            NotAResult: The line is not JSON, or holds no result.
        """
        try:
            return cls(json_of(line))
        except (ValueError, TypeError, KeyError):
            raise NotAResult(_NOT_A_RESULT) from None

    def entry(self) -> ResultEntry:
        """Return what a start must know.

        Raises:
            NotAResult: A field of that is missing or damaged.
        """
        try:
            custom_id, type_ = self._value["custom_id"], self._result["type"]
            is_final = type_ == "succeeded" or (
                type_ == "errored" and self._result["error"]["error"]["type"] in FINAL_ERRORS
            )
            executor = self._value.get("executor")
            hash_ = None if executor is None else _hash_of_digits(executor["hash"])
        except (ValueError, TypeError, KeyError):
            raise NotAResult(_NOT_A_RESULT) from None
        if not (isinstance(custom_id, str) and isinstance(type_, str)):
            raise NotAResult(_NOT_A_RESULT)
        return ResultEntry(custom_id, hash_, type_ == "succeeded", is_final)

    @property
    def custom_id(self) -> str:
        """The row that the result belongs to."""
        return str(self._value.get("custom_id", ""))

    @property
    def model(self) -> str:
        """The model that answered."""
        return str((self.message or _NOTHING).get("model", "unknown"))

    @property
    def usage(self) -> Usage | None:
        """Usage of the answer, if it says so."""
        usage = _mapping((self.message or _NOTHING).get("usage"))
        return Usage.from_api(usage) if usage else None

    @property
    def error(self) -> Mapping[str, Any]:
        """The error: its ``type`` and ``message``, as far as they are there."""
        error = _mapping(self._result.get("error"))
        return _mapping(error.get("error", error))

    @property
    def is_copy(self) -> bool:
        """Whether another row was sent in this one's place, so that this one cost nothing."""
        return "copy_of" in self._executor

    @property
    def measured(self) -> tuple[float, float, float, float]:
        """Measurements of the row: `at`, `queue_time`, `duration`, `attempts`; NaN if unknown."""
        known = self._executor.get
        return (
            _number(known("at")),
            _number(known("queue_time")),
            _number(known("duration")),
            _number(known("attempts")),
        )


def hash_of(params: Params) -> int:
    """Return a hash of 64 bits, the same for equal parameters in any order.

    Raises:
        TypeError: A parameter cannot be encoded as JSON.
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
    """Return the line of a row that was answered."""
    message = answer if isinstance(answer, Mapping) else answer.to_dict()
    return _line(custom_id, {"type": "succeeded", "message": message}, extras, mark)


def errored(custom_id: str, error: Exception, extras: Mapping[str, object], mark: Provenance) -> bytes:
    """Return the line of a row that failed."""
    body: dict[str, object] = {
        "type": "error",
        "error": {"type": error_type(error), "message": str(error)},
        "request_id": error.request_id if isinstance(error, Failed) else None,
    }
    return _line(custom_id, {"type": "errored", "error": body}, extras, mark)


def begins_like_a_result(torn: bytes) -> bool:
    """Whether a line, of which any part may be missing at the end, may be a result."""
    return torn.startswith(_ANY_LINE) or _ANY_LINE.startswith(torn)


def is_whole(line: bytes) -> bool:
    """Whether a line without a line end lacks nothing else."""
    try:
        json_of(line)
    except ValueError:
        return False
    return True


def json_of(line: bytes) -> dict[str, Any]:
    """Return the value of a line, even of one that only the standard library can read.

    Raises:
        ValueError: The line is not JSON.
    """
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            value = json.loads(line)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
    return cast("dict[str, Any]", value)


def _hash_of_digits(digits: str) -> int:
    if _HASH.fullmatch(digits) is None:
        raise ValueError
    return int(digits, 16)


def _mapping(value: Any) -> Mapping[str, Any]:  # noqa: ANN401 - `cast` takes longer than the rest of it
    return value if value.__class__ is dict else _NOTHING


def _number(value: object) -> float:
    return value if isinstance(value, (int, float)) and abs(value) < _MOST else math.nan


def _line(
    custom_id: str, result: Mapping[str, object], extras: Mapping[str, object], mark: Provenance
) -> bytes:
    line = {"custom_id": custom_id, "result": result, **extras, "executor": mark.as_dict()}
    try:
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # half a surrogate pair: JSON can escape it, UTF-8 cannot encode it
        return json.dumps(line).encode() + b"\n"


def _plain(value: object) -> object:
    """Return the JSON of the SDK's own objects: an answer's content may be part of the next question."""
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, object]", value))
    to_dict: Callable[[], object] | None = getattr(value, "to_dict", None)
    if to_dict is None:
        raise TypeError(f"{type(value).__name__} cannot be encoded as JSON")
    return to_dict()
