"""Rows of a bulk job: reading them from a JSONL file, and finding what is wrong before anything is sent.

A line may have one of three shapes::

    {"custom_id": "a", "params": {"model": …, "max_tokens": …, "messages": […]}}         Message Batches
    {"custom_id": "a", "method": "POST", "url": "/v1/messages", "body": {"model": …, …}}  OpenAI's batch files
    {"prompt": "…"}                                                                     with a default model

Whatever else a line holds is the user's own and comes back with the result. The file is read twice, once to
check it and once to send it, and no more of it is ever held than a line.
"""

from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heappush, heappushpop, merge
from itertools import pairwise
from pathlib import Path
from typing import cast

import orjson

LONGEST_ID = 64
"""Characters; the bound of Message Batches."""
MOST_PROBLEMS = 20
"""Problems that are told one by one; of the others only the number."""
DEFAULT_MAX_TOKENS = 1024
SHOWN_OF_ID = 40

_SORTED_AT_ONCE = 65_536
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_PATH = "/v1/messages"


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a line may leave out.

    Attributes:
        model: The model of lines that name none.
        max_tokens: The `max_tokens` of lines that have none. Lines that are only a prompt get 1,024 if this
            is `None`; of others it is then required, as it is at the API.
    """

    model: str | None = None
    max_tokens: int | None = None


NO_DEFAULTS = Defaults()


@dataclass(frozen=True, slots=True)
class Row:
    """One request of a bulk job.

    Attributes:
        custom_id: The name under which its result is found.
        params: What ``messages.create`` takes.
        extras: The user's own fields, which come back with the result.
    """

    custom_id: str
    params: Mapping[str, object] = field(repr=False)
    extras: Mapping[str, object] = field(default_factory=dict[str, object], repr=False)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one line; lines count from 1, and 0 stands for the file as a whole."""

    line: int
    what: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.what}" if self.line else self.what


@dataclass(frozen=True, slots=True)
class Survey:
    """What a file holds.

    Attributes:
        rows: Rows that can be sent.
        models: The models they ask for.
    """

    rows: int
    models: frozenset[str]


class BadRow(ValueError):
    """A line is no row. The message says what is wrong with it, never what is in it."""


class BadInput(Exception):
    """A file cannot be sent as it is.

    Attributes:
        problems: The first of them, in order of the lines.
        count: How many there are altogether.
    """

    def __init__(self, path: Path, problems: list[Problem], count: int) -> None:
        lines = [f"{path}: {problem}" for problem in problems]
        if count > len(problems):
            lines.append(f"{path}: and {count - len(problems):,} more problems")
        super().__init__("\n".join(lines))
        self.problems = problems
        self.count = count


def check(path: Path, defaults: Defaults = NO_DEFAULTS) -> Survey:
    """Read every line of a file and say what it holds.

    Raises:
        BadInput: Something is wrong with it.
        OSError: It cannot be read.
    """
    problems = _Problems()
    hashes = array("q")
    models: set[str] = set()
    for number, line in _lines(path):
        try:
            row = read_row(line, number, defaults)
        except BadRow as error:
            problems.add(number, str(error))
        else:
            hashes.append(hash(row.custom_id))
            models.add(str(row.params["model"]))
    if not hashes and not problems.count:
        problems.add(0, "there are no rows in it; put one JSON object on each line")
    if doubtful := _repeated(hashes):
        _find_duplicates(path, defaults, doubtful, problems)
    if problems.count:
        raise BadInput(path, problems.first(), problems.count)
    return Survey(len(hashes), frozenset(models))


def rows_of(path: Path, defaults: Defaults = NO_DEFAULTS) -> Iterator[Row]:
    """The rows of a file that has been checked.

    Raises:
        BadInput: The file has changed meanwhile, and not for the better.
    """
    for number, line in _lines(path):
        try:
            yield read_row(line, number, defaults)
        except BadRow as error:
            what = f"{error} (the file was changed while it was being read)"
            raise BadInput(path, [Problem(number, what)], 1) from error


def read_row(line: bytes, number: int, defaults: Defaults = NO_DEFAULTS) -> Row:
    """Read one line.

    Args:
        line: Its bytes.
        number: Its number, which names a row that has no `custom_id`.
        defaults: What it may leave out.

    Raises:
        BadRow: It is none.
    """
    try:
        value = _object(orjson.loads(line), "a row")
    except orjson.JSONDecodeError as error:
        raise BadRow(f"not JSON ({str(error).partition(':')[0]})") from None
    shapes = [name for name in _READERS if name in value]
    if len(shapes) != 1:
        wanted = "one of 'params', 'body' and 'prompt'"
        found = f"it has {' and '.join(map(repr, shapes))}" if shapes else "it has none of them"
        raise BadRow(f"a row needs exactly {wanted}; {found}")
    if "result" in value:
        raise BadRow("a field 'result' is kept for the answer; is this a results file?")
    params = _READERS[shapes[0]](value, defaults)
    custom_id = _custom_id(value.pop("custom_id", None), shapes[0], number)
    _check_params(params)
    return Row(custom_id, params, value)


# ---- the three shapes; what is left in `value` afterwards is the user's own


def _from_params(value: dict[str, object], defaults: Defaults) -> dict[str, object]:
    return _completed(_object(value.pop("params"), "'params'"), defaults.model, defaults.max_tokens)


def _from_body(value: dict[str, object], defaults: Defaults) -> dict[str, object]:
    method, url, body = value.pop("method", "POST"), value.pop("url", _PATH), value.pop("body")
    if method != "POST":
        raise BadRow("'method' must be \"POST\"")
    if url != _PATH:
        raise BadRow(f"'url' must be \"{_PATH}\": only the Messages API is served, and its form of body")
    return _completed(_object(body, "'body'"), defaults.model, defaults.max_tokens)


def _from_prompt(value: dict[str, object], defaults: Defaults) -> dict[str, object]:
    prompt = value.pop("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise BadRow(f"'prompt' must be a text that is not empty, not {_kind(prompt)}")
    params: dict[str, object] = {"messages": [{"role": "user", "content": prompt}]}
    return _completed(params, defaults.model, defaults.max_tokens or DEFAULT_MAX_TOKENS)


_READERS: Mapping[str, Callable[[dict[str, object], Defaults], dict[str, object]]] = {
    "params": _from_params,
    "body": _from_body,
    "prompt": _from_prompt,
}


def _completed(params: dict[str, object], model: str | None, max_tokens: int | None) -> dict[str, object]:
    if model is not None:
        params.setdefault("model", model)
    if max_tokens is not None:
        params.setdefault("max_tokens", max_tokens)
    return params


# ---- what is wrong with one row


def _custom_id(custom_id: object, shape: str, number: int) -> str:
    if custom_id is None and shape == "prompt":
        return f"line-{number}"
    if not isinstance(custom_id, str) or not custom_id:
        raise BadRow(f"'custom_id' must be a text that is not empty, not {_kind(custom_id)}")
    if len(custom_id) > LONGEST_ID:
        raise BadRow(f"'custom_id' has {len(custom_id)} characters; at most {LONGEST_ID} are allowed")
    return custom_id


def _check_params(params: Mapping[str, object]) -> None:
    model, most, messages = params.get("model"), params.get("max_tokens"), params.get("messages")
    if not isinstance(model, str) or not model:
        raise BadRow("no 'model'; add it, or name one for all rows with -m")
    if not isinstance(most, int) or isinstance(most, bool) or most < 0:
        raise BadRow(
            f"'max_tokens' must be a whole number that is not negative, not {_kind(most)}"
            if most is not None
            else "no 'max_tokens'; add it, or set one for all rows with --max-tokens"
        )
    kind = _kind(messages)
    if kind != "a list":
        raise BadRow(f"'messages' must be a list with at least one message, not {kind}")
    for place, value in enumerate(cast("list[object]", messages), start=1):
        message = _object(value, f"message {place}")
        if not isinstance(message.get("role"), str):
            raise BadRow(f"message {place} must have a 'role' and a 'content'")
        if not isinstance(message.get("content"), (str, list)):
            raise BadRow(f"message {place} must have a 'content' that is a text or a list of blocks")
    if params.get("stream"):
        raise BadRow("'stream' must be left out: a bulk job collects whole answers")


def _object(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise BadRow(f"{what} must be an object, not {_kind(value)}")
    return cast("dict[str, object]", value)


def _kind(value: object) -> str:
    """What a value is, without quoting it: it may be part of somebody's prompt."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return f"{value:g}" if abs(value) < 1e12 else "a huge number"
    if isinstance(value, str):
        return "a text" if value else "an empty text"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "an object"


# ---- the file as a whole


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if number == 1:
                line = line.removeprefix(_BYTE_ORDER_MARK)  # noqa: PLW2901 - what some editors put there
            if line.strip():
                yield number, line


def _repeated(hashes: "array[int]") -> set[int]:
    """Values that occur more than once, found by sorting: a set of a million ids would take 100 MB."""
    pieces = [
        array("q", sorted(hashes[at : at + _SORTED_AT_ONCE])) for at in range(0, len(hashes), _SORTED_AT_ONCE)
    ]
    return {one for one, other in pairwise(merge(*pieces)) if one == other}


def _find_duplicates(path: Path, defaults: Defaults, doubtful: set[int], problems: "_Problems") -> None:
    """Read the file again for ids whose hashes are equal: that may still be chance."""
    first: dict[str, int] = {}
    for number, line in _lines(path):
        try:
            custom_id = read_row(line, number, defaults).custom_id
        except BadRow:
            continue
        if hash(custom_id) in doubtful and first.setdefault(custom_id, number) != number:
            shown = custom_id if len(custom_id) <= SHOWN_OF_ID else custom_id[:SHOWN_OF_ID] + "…"
            problems.add(number, f"'custom_id' {shown!r} is already that of line {first[custom_id]}")


class _Problems:
    """The first problems by line, and the number of all."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[tuple[int, str]] = []  # a heap with the last of them on top

    def add(self, line: int, what: str) -> None:
        self.count += 1
        if len(self._first) < MOST_PROBLEMS:
            heappush(self._first, (-line, what))
        else:
            heappushpop(self._first, (-line, what))

    def first(self) -> list[Problem]:
        return [Problem(-line, what) for line, what in sorted(self._first, reverse=True)]
