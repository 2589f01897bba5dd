"""Rows of a bulk job: their three shapes, and the problems of rows that have none of them.

A line of JSON may have one of three shapes::

    {"custom_id": "a", "params": {"model": …, "max_tokens": …, "messages": […]}}         Message Batches
    {"custom_id": "a", "method": "POST", "url": "/v1/messages", "body": {"model": …, …}}  OpenAI's batch files
    {"prompt": "…"}                                                                     with a default model

A prompt may have a `custom_id`, `model`, `max_tokens` and `system` beside it. Rows of a table (CSV, Parquet)
have this shape, with a column for each field. All other fields are the user's own and come back with the
result.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import repeat
from pathlib import Path
from typing import cast

import orjson

from claude_executor.bulk.input import openai_chat as chat
from claude_executor.bulk.input.problems import BadInput, BadRow, RowProblem
from claude_executor.bulk.input.sources import Record, Source, Stamp, source_of

LONGEST_ID = 64
"""Characters, as in Message Batches."""
DEFAULT_MAX_TOKENS = 1024
PASSED_AT_ONCE = 1_000

_PATH = "/v1/messages"
_ARRAY = "; if the file is one JSON array, convert it: jq -c '.[]' FILE > FILE.jsonl"
_BY_POSITION = re.compile(r"(line|row)-\d+")


@dataclass(frozen=True, slots=True)
class RowDefaults:
    """Defaults for what rows leave out.

    Attributes:
        model: Model for rows without one.
        max_tokens: `max_tokens` for rows without one. If this is `None`, rows that are only a prompt get
            1,024; other rows must have it, as the API requires.
    """

    model: str | None = None
    max_tokens: int | None = None


NO_DEFAULTS = RowDefaults()


@dataclass(frozen=True, slots=True)
class Row:
    """One request of a bulk job.

    Attributes:
        custom_id: The id of the row and of its result.
        params: The arguments of ``messages.create``.
        extras: The user's own fields, which come back with the result.
    """

    custom_id: str
    params: Mapping[str, object] = field(repr=False)
    extras: Mapping[str, object] = field(default_factory=dict[str, object], repr=False)


def rows_of(source: Path | Source, defaults: RowDefaults = NO_DEFAULTS) -> Iterator[Row]:
    """Read the rows of a validated source.

    Raises:
        BadInput: The source has changed meanwhile, and a row is not valid now.
    """
    return (row for row in some_rows_of(source, defaults, repeat(True)) if row is not None)


def some_rows_of(
    source: Path | Source,
    defaults: RowDefaults,
    wanted: Iterable[int | bool],
    stamp: Stamp | None = None,
) -> Iterator[Row | None]:
    """Read the wanted rows of a validated source. The others are not even parsed.

    While rows are skipped, a `None` comes now and then, so that a caller can give others a turn. `wanted`
    goes by position. With the `stamp` of the validated file, a file that has changed since is refused, before
    its first row and after its last; after the last row it may have grown.

    Raises:
        BadInput: The source has changed meanwhile.
    """
    source = source_of(source)
    unit = source.unit
    _require(source, stamp)
    for (number, record), is_wanted in zip(source.records(), wanted, strict=False):
        if is_wanted:
            try:
                yield read_row(record, number, defaults, unit=unit)
            except BadRow as error:
                what = f"{error} (the file was changed while it was read)"
                raise BadInput(source.name, [RowProblem(number, what, unit)], 1) from error
        elif number % PASSED_AT_ONCE == 0:
            yield None
    _require(source, stamp, grown=True)


def _require(source: Source, stamp: Stamp | None, *, grown: bool = False) -> None:
    """Require that the source is unchanged; with `grown`, rows may have been added at its end."""
    if stamp is None:
        return
    *file, size, _ = now = source.stamp
    if now != stamp and not (grown and (*file,) == stamp[:2] and size > stamp[2]):
        what = "the file was changed after it was validated; run again (answered rows are not sent twice)"
        raise BadInput(source.name, [RowProblem(0, what)], 1)


def read_row(record: Record, number: int, defaults: RowDefaults = NO_DEFAULTS, *, unit: str = "line") -> Row:
    """Read one line of JSON, or one row of a table.

    Args:
        record: The bytes of the line, or the fields of the row.
        number: The number of the row, which names a row without `custom_id`.
        defaults: What the row may leave out.
        unit: What is numbered, for that name: a ``"line"`` or a ``"row"``.

    Raises:
        BadRow: The record is not a row.
    """
    return Row(*parts_of(record, number, defaults, unit))


def parts_of(
    record: Record, number: int, defaults: RowDefaults, unit: str
) -> tuple[str, dict[str, object], dict[str, object]]:
    """Read the id, params and extras of a record; faster than `read_row`, for millions of rows."""
    if isinstance(record, bytes):
        try:
            loaded: object = orjson.loads(record)
        except orjson.JSONDecodeError as error:
            raise BadRow(f"not JSON ({str(error).partition(':')[0]}){_hint(record, number)}") from None
        if number == 1 and record.lstrip().startswith(b"["):
            raise BadRow(f"a row must be an object, not a list{_ARRAY}")
        value = _object(loaded, "a row")
    elif isinstance(record, BadRow):
        raise record
    else:
        value = record
    if "result" in value:
        raise BadRow("the field 'result' is reserved for the answer; is this a results file?")
    shape = "params" if "params" in value else "body" if "body" in value else "prompt"
    if ("params" in value) + ("body" in value) + ("prompt" in value) != 1:
        shapes = " and ".join(repr(name) for name in _READERS if name in value)
        found = f"found {shapes}" if shapes else f"found none of them{_near_miss(value)}"
        raise BadRow(f"a row needs exactly one of 'params', 'body' and 'prompt'; {found}")
    if "executor" in value:
        raise BadRow("the field 'executor' is reserved for notes about the answer; rename it")
    params = _READERS[shape](value, defaults)
    custom_id = value.pop("custom_id", None)
    if custom_id is None and shape == "prompt":
        custom_id = f"{unit}-{number}"  # see `is_named_by_position`
    if custom_id is None:
        raise BadRow("no 'custom_id'; add one that no other row has")
    if not isinstance(custom_id, str) or not custom_id:
        raise BadRow(f"'custom_id' must be a non-empty string, not {_kind(custom_id)}")
    if len(custom_id) > LONGEST_ID:
        raise BadRow(f"'custom_id' has {len(custom_id)} characters; at most {LONGEST_ID} are allowed")
    _check_params(params)
    return custom_id, params, value


def is_named_by_position(custom_id: str) -> bool:
    """Whether an id looks like one made of a position, as rows without `custom_id` get."""
    return _BY_POSITION.fullmatch(custom_id) is not None


# ---- the three shapes; what is left in `value` afterwards is the user's own


def _from_params(value: dict[str, object], defaults: RowDefaults) -> dict[str, object]:
    return _completed(_object(value.pop("params"), "'params'"), defaults.model, defaults.max_tokens)


def _from_body(value: dict[str, object], defaults: RowDefaults) -> dict[str, object]:
    method, url, body = value.pop("method", "POST"), value.pop("url", _PATH), value.pop("body")
    if method != "POST":
        raise BadRow("'method' must be \"POST\"")
    params = _object(body, "'body'")
    if isinstance(url, str) and url in chat.PATHS:
        params = chat.converted(params)
    elif url != _PATH:
        raise BadRow(
            f'\'url\' must be "{_PATH}", or "/v1/chat/completions" for what a Claude message can express'
        )
    return _completed(params, defaults.model, defaults.max_tokens)


def _from_prompt(value: dict[str, object], defaults: RowDefaults) -> dict[str, object]:
    prompt = value.pop("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise BadRow(f"'prompt' must be a non-empty string, not {_kind(prompt)}")
    params: dict[str, object] = {"messages": [{"role": "user", "content": prompt}]}
    for name in ("model", "max_tokens", "system"):
        given = value.pop(name, None)
        if given is not None:
            params[name] = given
    most = DEFAULT_MAX_TOKENS if defaults.max_tokens is None else defaults.max_tokens
    return _completed(params, defaults.model, most)


_READERS: Mapping[str, Callable[[dict[str, object], RowDefaults], dict[str, object]]] = {
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


def _check_params(params: dict[str, object]) -> None:
    model, most = params.get("model"), params.get("max_tokens")
    if not isinstance(model, str) or not model:
        raise BadRow("no 'model'; add it, or set one for all rows with -m")
    if not isinstance(most, int) or isinstance(most, bool) or most < 0:
        raise BadRow(
            f"'max_tokens' must be a whole number, 0 or more, not {_kind(most)}"
            if most is not None
            else "no 'max_tokens'; add it, or set one for all rows with --max-tokens"
        )
    if not isinstance(params.get("messages"), list) or not params["messages"]:
        kind = _kind(params.get("messages"))
        raise BadRow(f"'messages' must be a list with at least one message, not {kind}")
    messages = cast("list[dict[str, object]]", params["messages"])
    _check_messages(messages)
    if messages[0]["role"] in chat.SYSTEM:
        chat.lift_system(params)
        if not params["messages"]:
            raise BadRow('there are only system messages; add one with the role "user"')
    if "system" in params and not isinstance(params["system"], (str, list)):
        raise BadRow(f"'system' must be a string or a list of blocks, not {_kind(params['system'])}")
    if params.get("stream"):
        raise BadRow("remove 'stream': a bulk job collects whole answers")


def _check_messages(messages: "list[dict[str, object]]") -> None:
    number = 0
    for message in messages:
        number += 1  # noqa: SIM113 - `enumerate` takes longer than one message does
        if not isinstance(message, dict):
            raise BadRow(f"message {number} must be an object, not {_kind(message)}")
        if not isinstance(message.get("role"), str):
            raise BadRow(f"message {number} must have a 'role' and a 'content'")
        if not isinstance(message.get("content"), (str, list)):
            raise BadRow(f"message {number} must have a 'content' that is a string or a list of blocks")


def _hint(record: bytes, number: int) -> str:
    """Say what a file may be whose first line is not JSON."""
    start = record.lstrip()[:1]
    if number > 1 or start == b"{":
        return ""
    return _ARRAY if start == b"[" else "; a table must be CSV, named .csv"


def _near_miss(value: Mapping[str, object]) -> str:
    """Name a field that is probably a misspelled one."""
    for name in _READERS:
        if close := get_close_matches(name, value, 1, 0.75):
            return f", but {close[0]!r}; did you mean {name!r}?"
    return ""


def _object(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise BadRow(f"{what} must be an object, not {_kind(value)}")
    return cast("dict[str, object]", value)


def _kind(value: object) -> str:
    """Describe a value without quoting it: it may be part of a prompt."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return f"{value:g}" if abs(value) < 1e12 else "a huge number"
    if isinstance(value, str):
        return "a string" if value.strip() else "an empty string"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "an object"
