"""Rows of a bulk job: the shapes they may have, and what is wrong with those that have none of them.

A line of JSON may have one of three shapes::

    {"custom_id": "a", "params": {"model": …, "max_tokens": …, "messages": […]}}         Message Batches
    {"custom_id": "a", "method": "POST", "url": "/v1/messages", "body": {"model": …, …}}  OpenAI's batch files
    {"prompt": "…"}                                                                     with a default model

A prompt may have a `custom_id`, `model`, `max_tokens` and `system` beside it; the rows of a table (CSV,
Parquet) are of this shape, with a column for each. Whatever else a row holds is the user's own and comes
back with the result.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import cast

import orjson

from claude_executor.bulk.input import openai_chat as chat
from claude_executor.bulk.input.problems import BadInput, BadRow, RowProblem
from claude_executor.bulk.input.sources import Record, Source, Stamp, source_of

LONGEST_ID = 64
"""Characters; the bound of Message Batches."""
DEFAULT_MAX_TOKENS = 1024
PASSED_AT_ONCE = 1_000

_PATH = "/v1/messages"
_BY_PLACE = re.compile(r"(line|row)-\d+")


@dataclass(frozen=True, slots=True)
class RowDefaults:
    """What a line may leave out.

    Attributes:
        model: The model of lines that name none.
        max_tokens: The `max_tokens` of lines that have none. Lines that are only a prompt get 1,024 if this
            is `None`; of others it is then required, as it is at the API.
    """

    model: str | None = None
    max_tokens: int | None = None


NO_DEFAULTS = RowDefaults()


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


def rows_of(source: Path | Source, defaults: RowDefaults = NO_DEFAULTS) -> Iterator[Row]:
    """The rows of a source that has been checked.

    Raises:
        BadInput: It has changed meanwhile, and not for the better.
    """
    return (row for row in some_rows_of(source, defaults, repeat(True)) if row is not None)


def some_rows_of(
    source: Path | Source,
    defaults: RowDefaults,
    wanted: Iterable[int | bool],
    stamp: Stamp | None = None,
) -> Iterator[Row | None]:
    """Those that are wanted of the rows of a source that has been checked; the others are not even parsed.

    While rows are passed over there is a `None` now and then, for who must not stand still so long. `wanted`
    goes by where rows stand: with the `stamp` that the file had when it was checked, a file that was changed
    since is refused, before its first row and after its last; then it may have grown.

    Raises:
        BadInput: As `rows_of`.
    """
    source = source_of(source)
    unit = source.unit
    _require(source, stamp)
    for (number, record), is_wanted in zip(source.records(), wanted, strict=False):
        if is_wanted:
            try:
                yield read_row(record, number, defaults, unit=unit)
            except BadRow as error:
                what = f"{error} (the file was changed while it was being read)"
                raise BadInput(source.name, [RowProblem(number, what, unit)], 1) from error
        elif number % PASSED_AT_ONCE == 0:
            yield None
    _require(source, stamp, grown=True)


def _require(source: Source, stamp: Stamp | None, *, grown: bool = False) -> None:
    """See that it is as it was; or has `grown` at its end, which what was read does not know of."""
    if stamp is None:
        return
    *file, size, _ = now = source.stamp
    if now != stamp and not (grown and (*file,) == stamp[:2] and size > stamp[2]):
        what = "it was changed since it was checked; start again: what is answered is not sent again"
        raise BadInput(source.name, [RowProblem(0, what)], 1)


def read_row(record: Record, number: int, defaults: RowDefaults = NO_DEFAULTS, *, unit: str = "line") -> Row:
    """Read one line of JSON, or one row of a table.

    Args:
        record: Its bytes, or its fields.
        number: Its number, which names a row that has no `custom_id`.
        defaults: What it may leave out.
        unit: What is counted, for that name.

    Raises:
        BadRow: It is none.
    """
    return Row(*parts_of(record, number, defaults, unit))


def parts_of(
    record: Record, number: int, defaults: RowDefaults, unit: str
) -> tuple[str, dict[str, object], dict[str, object]]:
    """What `read_row` makes a `Row` of: id, params and extras, for those who look at millions of them."""
    if isinstance(record, bytes):
        try:
            value = orjson.loads(record)
        except orjson.JSONDecodeError as error:
            table = "" if number > 1 or record.lstrip()[:1] in b"{[" else "; a table must be CSV, named .csv"
            raise BadRow(f"not JSON ({str(error).partition(':')[0]}){table}") from None
        value = _object(value, "a row")
    elif isinstance(record, BadRow):
        raise record
    else:
        value = record
    if "result" in value:
        raise BadRow("a field 'result' is kept for the answer; is this a results file?")
    shape = "params" if "params" in value else "body" if "body" in value else "prompt"
    if ("params" in value) + ("body" in value) + ("prompt" in value) != 1:
        shapes = " and ".join(repr(name) for name in _READERS if name in value)
        found = f"it has {shapes}" if shapes else "it has none of them"
        raise BadRow(f"a row needs exactly one of 'params', 'body' and 'prompt'; {found}")
    if "executor" in value:
        raise BadRow("a field 'executor' is kept for what is noted of the answer; give it another name")
    params = _READERS[shape](value, defaults)
    custom_id = value.pop("custom_id", None)
    if custom_id is None and shape == "prompt":
        custom_id = f"{unit}-{number}"  # see `is_by_place`
    if custom_id is None:
        raise BadRow("no 'custom_id'; add one, a text that no other row has")
    if not isinstance(custom_id, str) or not custom_id:
        raise BadRow(f"'custom_id' must be a text that is not empty, not {_kind(custom_id)}")
    if len(custom_id) > LONGEST_ID:
        raise BadRow(f"'custom_id' has {len(custom_id)} characters; at most {LONGEST_ID} are allowed")
    _check_params(params)
    return custom_id, params, value


def is_by_place(custom_id: str) -> bool:
    """Whether an id looks like that of a row which has none, and is therefore named by its place."""
    return _BY_PLACE.fullmatch(custom_id) is not None


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
            f'\'url\' must be "{_PATH}", or "/v1/chat/completions" for what can be said as a Claude message'
        )
    return _completed(params, defaults.model, defaults.max_tokens)


def _from_prompt(value: dict[str, object], defaults: RowDefaults) -> dict[str, object]:
    prompt = value.pop("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise BadRow(f"'prompt' must be a text that is not empty, not {_kind(prompt)}")
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
        raise BadRow("no 'model'; add it, or name one for all rows with -m")
    if not isinstance(most, int) or isinstance(most, bool) or most < 0:
        raise BadRow(
            f"'max_tokens' must be a whole number that is not negative, not {_kind(most)}"
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
            raise BadRow('there is nothing but system messages: add one with the role "user"')
    if "system" in params and not isinstance(params["system"], (str, list)):
        raise BadRow(f"'system' must be a text or a list of blocks, not {_kind(params['system'])}")
    if params.get("stream"):
        raise BadRow("'stream' must be left out: a bulk job collects whole answers")


def _check_messages(messages: "list[dict[str, object]]") -> None:
    place = 0
    for message in messages:
        place += 1  # noqa: SIM113 - `enumerate` takes longer than one message does
        if not isinstance(message, dict):
            raise BadRow(f"message {place} must be an object, not {_kind(message)}")
        if not isinstance(message.get("role"), str):
            raise BadRow(f"message {place} must have a 'role' and a 'content'")
        if not isinstance(message.get("content"), (str, list)):
            raise BadRow(f"message {place} must have a 'content' that is a text or a list of blocks")


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
        return "a text" if value.strip() else "an empty text"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "an object"
