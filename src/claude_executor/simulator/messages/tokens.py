"""The simulator's token counts.

The counts are not those of the real tokenizer. The ratio of bytes to tokens differs on purpose between prose,
code, numbers and other scripts, so that a client that estimates has something to learn.
"""

import orjson

from claude_executor.simulator.world.json_values import Json, is_object

# A token covers up to six bytes of a word; every word costs at least one.
_PIECE = 6
_PIECES = [-(-length // _PIECE) for length in range(64)]
# Signs, digits and the bytes of other scripts cost half a token each, on top of their words.
_CHEAP = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz \n"

PER_MESSAGE = 4
PER_TOOL_LIST = 346
PER_IMAGE = 1_600
PER_PDF_BYTE = 1 / 30

_MEMORY_LIMIT = 20_000
_LONG = 256


def _count(text: str) -> int:
    data = text.encode("utf-8", "surrogatepass")
    words = data.split()
    try:
        pieces = sum(map(_PIECES.__getitem__, map(len, words)))
    except IndexError:
        pieces = sum(-(-len(word) // _PIECE) for word in words)
    return pieces + len(data.translate(None, _CHEAP)) // 2


class TokenCounter:
    """Counts tokens. Counts of long texts are cached by hash, so retries and shared prefixes are cheap."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], int] = {}

    def text(self, text: str) -> int:
        """Count the tokens of a plain text."""
        if len(text) < _LONG:
            return _count(text)
        key = (hash(text), len(text))
        tokens = self._known.get(key)
        if tokens is None:
            tokens = _count(text)
            if len(self._known) >= _MEMORY_LIMIT:
                self._known.clear()
            self._known[key] = tokens
        return tokens

    def block(self, block: Json) -> int:
        """Count the tokens of one content block, or of a string in its place."""
        if isinstance(block, str):
            return self.text(block)
        if not is_object(block):
            return 1
        kind = block.get("type")
        if kind == "text":
            return self.text(str(block.get("text", "")))
        if kind == "image":
            return PER_IMAGE
        if kind == "document":
            return self._document(block)
        return self.text(orjson.dumps(block).decode())

    def _document(self, block: dict[str, Json]) -> int:
        source = block.get("source")
        data = source.get("data", "") if is_object(source) else ""
        if is_object(source) and source.get("type") == "text":
            return self.text(str(data))
        return PER_IMAGE + int(len(str(data)) * PER_PDF_BYTE)
