"""Checks a request and an API key before anything is sent.

A key that cannot stand in a header and params that cannot be encoded as JSON would fail deep inside the SDK,
row after row, with an error that names neither. Messages never quote what they complain of: they only say
where it is, and what is wrong with it.
"""

import io
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date
from typing import cast

from claude_executor.core.model.request import RequestShape, shape_of

_SET_KEY = "set ANTHROPIC_API_KEY (create a key at console.anthropic.com)"
_CHECK_KEY = "check ANTHROPIC_API_KEY"
NO_KEY = f"no API key found; {_SET_KEY}"
"""The detail of a failure for want of a key."""
_NOT_SENT = frozenset({"timeout", "extra_headers", "extra_query"})
"""Arguments of ``messages.create`` that are no part of the body."""
_KEY_HEADERS = frozenset({"authorization", "x-api-key"})
_LEFT_OUT = frozenset({"NotGiven", "Omit"})
"""Class names of the SDK's marks for arguments that are not given; the SDK strips them."""
_HARMLESS: frozenset[type] = frozenset({int, bool, type(None)})
_BYTES: frozenset[type] = frozenset({bytes, bytearray, memoryview})
_NAME = re.compile(r"\w{1,40}")
"""A key that is shown in a path. Longer keys may be content."""


def check_params(params: Mapping[str, object]) -> None:
    """Check that a request can be encoded as JSON, as the SDK does it.

    Raises:
        TypeError: JSON has no form for a value; the message names its path and type.
        ValueError: JSON has no form for a text or a number.
    """
    for name, value in params.items():
        if type(value) in _HARMLESS or name in _NOT_SENT:
            continue
        try:
            found = _flaw(value)
        except RecursionError:
            raise ValueError(f"cannot encode {name!r}: it is nested too deeply, or contains itself") from None
        if found is not None:
            path, error = found
            where = ".".join([name, *reversed(path)])
            raise type(error)(f"cannot encode {where!r}: {error}") from None


def validated_shape(params: Mapping[str, object]) -> RequestShape:
    """Check a request, and return its shape.

    Raises:
        TypeError: It is not a mapping, or JSON has no form for a value.
        ValueError: A required parameter is missing, or JSON has no form for a text or a number.
    """
    if not isinstance(params, Mapping):
        raise TypeError(f"a request must be a mapping, as for messages.create, got {type(params).__name__}")
    check_params(params)
    return shape_of(params)


def require_countable(params: Mapping[str, object]) -> None:
    """Check a request whose tokens are to be counted: as `validated_shape`, but `max_tokens` may be missing.

    Raises:
        TypeError: As for `validated_shape`.
        ValueError: As for `validated_shape`.
    """
    if not isinstance(params, Mapping) or "max_tokens" in params:
        validated_shape(params)
    else:
        validated_shape({**params, "max_tokens": 0})


_Found = tuple[list[str], TypeError | ValueError]


def _flaw(value: object) -> _Found | None:
    """Return the first value that cannot be encoded: its path, innermost first, and why; or None."""
    if isinstance(value, str):
        return None if value.isascii() else _flaw_of_text(value)
    if value is None or isinstance(value, int):
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else ([], ValueError("JSON has no infinity and no NaN"))
    if isinstance(value, (dict, Mapping)):  # asked in this order because an abstract class answers slowly
        return _flaw_of_mapping(cast("Mapping[object, object]", value))
    if type(value) in _BYTES:
        return _flaw_of_other(value)
    if isinstance(value, (list, Sequence, AbstractSet)):
        return _flaw_of_items(cast("Sequence[object] | AbstractSet[object]", value))
    return _flaw_of_other(value)


def _flaw_of_other(value: object) -> _Found | None:
    if isinstance(value, type):
        return [], TypeError(
            "it is a class; pass a JSON schema, or use executor.call(client.messages.parse, …)"
        )
    if isinstance(value, date) or hasattr(value, "model_dump") or type(value).__name__ in _LEFT_OUT:
        return None  # the SDK writes dates and its own blocks
    if isinstance(value, Iterator):
        return [], TypeError(
            "an iterator can be read only once, so a retry would send nothing; make it a list"
        )
    return [], TypeError(f"JSON has no form for {type(value).__name__}")


def _flaw_of_text(text: str) -> _Found | None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return [], ValueError("the text contains half of a surrogate pair, which is not a character")
    return None


def _flaw_of_mapping(mapping: Mapping[object, object]) -> _Found | None:
    for key, value in mapping.items():
        if not isinstance(key, (str, int, float)) and key is not None:
            return [], TypeError(f"a key in it is of type {type(key).__name__}, and must be a string")
        if isinstance(value, str) and value.isascii():
            continue  # as nearly all are
        if key == "data" and isinstance(value, (os.PathLike, io.IOBase)):
            continue  # a file, which the SDK reads and encodes
        found = _flaw(value)
        if found is not None:
            name = str(key)
            found[0].append(name if _NAME.fullmatch(name) else "…")
            return found
    return None


def _flaw_of_items(items: Sequence[object] | AbstractSet[object]) -> _Found | None:
    for index, item in enumerate(items):
        found = _flaw(item)
        if found is not None:
            found[0].append(str(index))
            return found
    return None


def key_problem(headers: Mapping[str, object]) -> str | None:
    """Return what is wrong with the API key in a client's headers, if it cannot be accepted; else None."""
    keys = [
        value.removeprefix("Bearer ").removeprefix("Bearer")
        for name, value in headers.items()
        if name.lower() in _KEY_HEADERS and isinstance(value, str)
    ]
    for key in keys:
        if any(mark in key for mark in "\r\n\v\f\x85\u2028\u2029"):
            return f"the API key contains a line break; {_CHECK_KEY}"
        if key.strip() and any(mark.isspace() for mark in key):
            return f"the API key contains a space; {_CHECK_KEY}"
        if not (key.isascii() and key.isprintable()):
            return (
                "the API key contains an invalid character (a curly quote pasted from a document?); "
                + _CHECK_KEY
            )
    return f"the API key is empty; {_SET_KEY}" if keys and not any(key.strip() for key in keys) else None
