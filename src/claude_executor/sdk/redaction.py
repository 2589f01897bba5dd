"""Removes the texts of a request from the API's error messages about it.

The messages are worth showing: they name the parameter and the limit. But some quote what they complain of,
which may be the prompt. So everything that a message has in common with the request's own texts is removed:
quoted passages and words, and runs of `SHARED` characters or more. The model's name, and the protocol's words
for roles and types, are not secret and stay.

A request may have megabytes, and other requests wait meanwhile. So the work is bounded, and what can no
longer be compared is removed as well.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import cast

SHARED = 12
"""Characters. Shorter runs are common words: "max_tokens", "the limit is"."""
GAP = "…"
LONGEST = 400
"""Characters of a message that are examined; the rest is cut off."""
MOST_COMPARED = 75_000_000
"""Characters of the request to search for one message, all searches together: some 50 ms."""

_PATH = re.compile(r"[a-z_]+(?:\.\w+)*:")
"""The beginning of a message that names a parameter: ``messages.0.content:``."""
_QUOTED = re.compile(r"(?<!\w)(['\"`])(?=\S)(.+?)(?:\1(?!\w)|\Z)", re.DOTALL)
"""A quotation, also one that is cut off at the end."""
_NAME = re.compile(r"[A-Za-z_][\w.:-]*")
_WORD = re.compile(r"\w+")
_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)")
_LEAST_WORD = 4
_BYTES: frozenset[type] = frozenset({bytes, bytearray, memoryview})
_NO_SECRETS = frozenset({"type", "role"})
_PROTOCOL = frozenset(
    {"assistant", "base64", "content", "document", "image", "input", "max_tokens", "messages", "metadata"}
    | {"model", "name", "role", "source", "stream", "system", "temperature", "text", "thinking", "tool"}
    | {"tool_choice", "tool_result", "tool_use", "tools", "top_k", "top_p", "type", "url", "user"}
)
"""Names that the API quotes in its errors, and that a prompt may contain, too."""


class _Own:
    """The texts of a request, which may be searched as long as `MOST_COMPARED` allows."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._whole = "\x00".join(texts)
        self._short = {text.strip() for text in texts if len(text) <= LONGEST}
        self._left = MOST_COMPARED

    def is_one(self, said: str) -> bool:
        """Whether a quotation is the whole of one of the texts."""
        return said in self._short

    def holds(self, said: str) -> bool:
        """Whether a quotation occurs anywhere; True once the texts may no longer be searched."""
        if self._left <= 0:
            return True
        found = self._whole.find(said)
        read = found if found >= 0 else len(self._whole)
        self._left -= read * (1 + SHARED // len(said))  # the shorter, the slower
        return found >= 0


def redacted(said: str, params: Mapping[str, object]) -> str:
    """Return the beginning of a message, without what it shares with the texts of a request."""
    said = said[:LONGEST]
    texts = list(_texts({name: value for name, value in params.items() if name != "model"}))
    if not texts or not said:
        return said
    path = _PATH.match(said)
    begin = path.end() if path is not None else 0
    own = _Own(texts)
    rest = _QUOTED.sub(lambda found: _quotation(found, own), said[begin:])
    return said[:begin] + _without_runs(rest, own)


def _quotation(found: re.Match[str], own: _Own) -> str:
    mark, quoted = found[1], found[2]
    secret = own.is_one(quoted) or (quoted not in _PROTOCOL and own.holds(quoted))
    if (
        not secret and _NAME.fullmatch(quoted) is None
    ):  # perhaps escaped or cut short, so not found as it stands
        words = [word for word in _WORD.findall(_ESCAPE.sub(" ", quoted)) if len(word) >= _LEAST_WORD]
        secret = any(own.holds(word) for word in words)
    return f"{mark}{GAP}{mark}" if secret else found[0]


def _without_runs(said: str, own: _Own) -> str:
    """Remove the runs of whole words that occur in `own`, if they are long."""
    words = [found.span() for found in _WORD.finditer(said)]
    kept: list[str] = []
    copied = first = 0
    while first < len(words):
        last = first
        end = -1
        while last < len(words):
            start, stop = words[first][0], words[last][1]
            if stop - start >= SHARED:
                if not own.holds(said[start:stop]):
                    break
                end = stop
            last += 1
        if end < 0:
            first += 1
            continue
        kept += [said[copied : words[first][0]], GAP]
        copied = end
        first = last
    kept.append(said[copied:])
    return "".join(kept)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in cast("Mapping[object, object]", value).items():
            if key not in _NO_SECRETS:
                yield from _texts(inner)
    elif type(value) in _BYTES:
        pass  # they cannot have been sent
    elif isinstance(value, (Sequence, AbstractSet)):
        for item in cast("Sequence[object]", value):
            yield from _texts(item)
    else:
        yield from _texts_of_other(value)


def _texts_of_other(value: object) -> Iterator[str]:
    if hasattr(value, "__dict__"):
        yield from _texts(vars(value))  # the SDK's own blocks, fed back into a conversation
