"""Shape of a request: its size as far as it is known without a tokenizer."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

REQUEST_OVERHEAD = 10
MESSAGE_OVERHEAD = 4
TOOLS_OVERHEAD = 350
"""Tokens of the hidden system prompt that tools bring; 300 to 700 are documented, by model."""
IMAGE_TOKENS = 1_600
"""The API scales larger images down to about this."""
PDF_BYTES_PER_TOKEN = 30
"""Base64 of a text-heavy PDF: some 2,000 tokens a page of about 60 kB."""

SYNTAX_BYTES = 16
"""Quotes and marks around a name and its value, with room for values such as "text" that are not counted."""

_NOT_TEXT = frozenset({"type", "role", "cache_control", "signature"})


class RequestShape(NamedTuple):
    """Size of a request as far as it is known without a tokenizer. Contains no text.

    Attributes:
        model: The model it asks.
        max_tokens: The most output tokens it allows.
        text_bytes: Bytes of its text, in UTF-8.
        other_tokens: Estimated tokens of everything else: images, documents, hidden prompts.
        prefix: Hash of the prefix up to its last cache marker; None without a marker.
        prefix_bytes: Bytes of text in that prefix.
        syntax_bytes: Bytes of names and punctuation around the text.
        expected_output: Output tokens to expect, if the caller gave an estimate.
    """

    model: str
    max_tokens: int
    text_bytes: int
    other_tokens: int
    prefix: bytes | None = None
    prefix_bytes: int = 0
    syntax_bytes: int = 0
    expected_output: float | None = None

    @property
    def max_text_tokens(self) -> int:
        """The most tokens of the text and the syntax around it: one token a byte."""
        return self.text_bytes + self.syntax_bytes


def shape_of(params: Mapping[str, object]) -> RequestShape:
    """Measure a request's parameters, as given to ``messages.create``.

    Raises:
        ValueError: `model`, `max_tokens` or `messages` is missing or plainly wrong.
    """
    model, max_tokens, messages = params.get("model"), params.get("max_tokens"), params.get("messages")
    if not isinstance(model, str) or not model:
        raise ValueError("a request needs a 'model', such as 'claude-haiku-5-5'")
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool) or max_tokens < 0:
        raise ValueError(f"a request needs 'max_tokens', a whole number, got {max_tokens!r}")
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise ValueError("a request needs 'messages', a list with at least one message")
    reader = _ShapeReader()
    # The order in which the API reads a request, and therefore the order that decides what a prefix is.
    tools, system = params.get("tools"), params.get("system")
    if tools:
        reader.add(tools)
        reader.other_tokens += TOOLS_OVERHEAD
    if system:
        reader.add(system)
    reader.add(cast("Sequence[object]", messages))
    count = len(cast("Sequence[object]", messages))
    other = reader.other_tokens + REQUEST_OVERHEAD + MESSAGE_OVERHEAD * count
    return RequestShape(
        model, max_tokens, reader.text_bytes, other, reader.prefix, reader.prefix_bytes, reader.syntax_bytes
    )


class _ShapeReader:
    """Reader of a request that counts its parts up to the last cache marker and in total."""

    def __init__(self) -> None:
        self.text_bytes = 0
        self.syntax_bytes = 0
        self.other_tokens = 0
        self.prefix: bytes | None = None
        self.prefix_bytes = 0
        self._texts: list[str] = []

    def add(self, part: object) -> None:
        if isinstance(part, str):
            self.text_bytes += len(part) if part.isascii() else len(part.encode("utf-8", "surrogatepass"))
            self._texts.append(part)
        elif isinstance(part, (dict, Mapping)):  # in this order: an abstract class is slow to ask
            self._add_block(cast("Mapping[str, object]", part))
        elif isinstance(part, (list, Sequence)) and not isinstance(part, (bytes, bytearray)):
            for item in cast("Sequence[object]", part):
                self.add(item)
        elif isinstance(part, (int, float)):
            self.text_bytes += 4
        elif part is not None and hasattr(part, "__dict__"):
            self._add_block(vars(part))  # the SDK's own blocks, fed back into a conversation

    def _add_block(self, block: Mapping[str, object]) -> None:
        self.syntax_bytes += SYNTAX_BYTES * len(block) + sum(map(len, block))
        kind = block.get("type")
        source = block.get("source")
        held: Mapping[str, object] = {}
        if source is not None and isinstance(source, Mapping):
            held = cast("Mapping[str, object]", source)
        data = held.get("data")
        if held:
            self._texts.append(str(data or held.get("url") or held.get("file_id")))  # for the prefix
        if kind == "image":
            self.other_tokens += IMAGE_TOKENS
        elif kind == "document" and held.get("type") == "base64":
            self.other_tokens += len(data) // PDF_BYTES_PER_TOKEN if isinstance(data, str) else IMAGE_TOKENS
        else:
            for key, value in block.items():
                if key not in _NOT_TEXT:
                    self.add(value)
        if block.get("cache_control"):
            self.prefix_bytes = self.text_bytes
            self.prefix = hashlib.blake2b(
                "\x00".join(self._texts).encode("utf-8", "surrogatepass"), digest_size=12
            ).digest()
