"""Takes what a request says out of what the API says about it.

The API's error texts are worth showing: they name the parameter and the limit. But some quote what they
complain of, and that may be the prompt. So whatever such a text has in common with the request's own texts
is left out: quoted passages, and runs of `SHARED` characters or more. The model's name, and the words by
which the protocol names roles and types, are no secrets and stay.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import cast

SHARED = 12
"""Characters. Shorter runs are words that everybody uses: "max_tokens", "the limit is"."""
GAP = "…"

_PATH = re.compile(r"[a-z_]+(?:\.\w+)*:")
"""How the API begins when it names a parameter: ``messages.0.content:``."""
_QUOTED = re.compile(r"(?<!\w)(['\"`])(?=\S)(.+?)\1(?!\w)", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_][\w.:-]*")
_WORD = re.compile(r"\w+")
_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)")
_LEAST_WORD = 4
_BYTES: frozenset[type] = frozenset({bytes, bytearray, memoryview})
_NO_SECRETS = frozenset({"type", "role"})


def redacted(said: str, params: Mapping[str, object]) -> str:
    """`said` without what it shares with the texts of a request."""
    texts = list(_texts({name: value for name, value in params.items() if name != "model"}))
    if not texts or not said:
        return said
    path = _PATH.match(said)
    begin = path.end() if path is not None else 0
    whole = "\x00".join(texts)
    named = {text.strip() for text in texts}
    rest = _QUOTED.sub(lambda found: _quotation(found, whole, named), said[begin:])
    return said[:begin] + _without_runs(rest, whole)


def _quotation(found: re.Match[str], whole: str, named: AbstractSet[str]) -> str:
    mark, quoted = found[1], found[2]
    if _NAME.fullmatch(quoted):  # a parameter or a type, unless it is all that the request says
        secret = quoted in named
    else:  # perhaps escaped or cut short, so not to be found as it stands
        words = [word for word in _WORD.findall(_ESCAPE.sub(" ", quoted)) if len(word) >= _LEAST_WORD]
        secret = quoted in named or any(word in whole for word in words)
    return f"{mark}{GAP}{mark}" if secret else found[0]


def _without_runs(said: str, whole: str) -> str:
    """Leave out the runs of whole words that occur in `whole`, if they are long."""
    words = [found.span() for found in _WORD.finditer(said)]
    kept: list[str] = []
    copied = first = 0
    while first < len(words):
        last = first
        end = -1
        while last < len(words):
            start, stop = words[first][0], words[last][1]
            if stop - start >= SHARED:
                if said[start:stop] not in whole:
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
