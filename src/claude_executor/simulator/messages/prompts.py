"""Request bodies, parsed and validated as the API does."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b

import orjson

from claude_executor.simulator.messages.errors import ErrorResponse, invalid_request, unknown_model
from claude_executor.simulator.messages.tokens import PER_MESSAGE, PER_TOOL_LIST, TokenCounter
from claude_executor.simulator.world.json_values import Json, is_array, is_object
from claude_executor.simulator.world.settings import Settings


@dataclass(slots=True)
class CacheMark:
    """A cache breakpoint: all content up to it is one prefix.

    Attributes:
        digest: The hash of the model and the exact content up to the mark.
        tokens: The number of tokens up to the mark.
        seconds: The lifetime of the prefix, in seconds.
    """

    digest: bytes
    tokens: int
    seconds: float


@dataclass(slots=True)
class Prompt:
    """A valid request.

    Attributes:
        identity: The request's ``metadata.user_id``, or the hash of its body.
        digest: The hash of the body, 16 hex digits.
        model: The model id as it was sent.
        pool: The pool of the model.
        max_tokens: The longest answer allowed, in tokens.
        stream: Whether the answer is streamed.
        tokens: All input tokens, cached or not.
        marks: The cache marks in order.
    """

    identity: str
    digest: str
    model: str
    pool: str
    max_tokens: int
    stream: bool
    tokens: int
    marks: list[CacheMark]


class PromptReader:
    """Parses request bodies into prompts.

    Args:
        settings: The known models and the longest prompt.
        counter: The token counter.
    """

    def __init__(self, settings: Settings, counter: TokenCounter) -> None:
        self._settings = settings
        self._counter = counter

    def identify(self, body: bytes) -> tuple[str, str, Json]:
        """Identify a request by its body, even an invalid one.

        Returns:
            The identity, the body's hash, and the JSON value (``None`` if it is not JSON).
        """
        digest = blake2b(body, digest_size=8).hexdigest()
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            return digest, digest, None
        metadata = value.get("metadata") if is_object(value) else None
        user = metadata.get("user_id") if is_object(metadata) else None
        return (user if isinstance(user, str) and user else digest), digest, value

    def read(
        self, identity: str, digest: str, value: Json, *, counting: bool = False
    ) -> Prompt | ErrorResponse:
        """Validate a body and count its tokens, or return the error.

        Args:
            identity: From ``identify``.
            digest: From ``identify``.
            value: From ``identify``.
            counting: Whether the request only counts tokens and needs no ``max_tokens``.
        """
        if not is_object(value):
            return invalid_request("The request body is not a valid JSON object.")
        message = _first_error(value, counting=counting)
        if message is not None:
            return invalid_request(message)
        model = value["model"]
        pool = self._settings.models.get(model)
        if pool is None:
            return unknown_model(model)
        tokens, marks = self._measure(model, value)
        window = self._settings.context_window
        if tokens > window and not counting:
            return invalid_request(f"prompt is too long: {tokens} tokens > {window} maximum")
        return Prompt(
            identity,
            digest,
            model,
            pool,
            value.get("max_tokens", 1),
            bool(value.get("stream")),
            tokens,
            marks,
        )

    def _measure(self, model: str, value: dict[str, Json]) -> tuple[int, list[CacheMark]]:
        tokens = 0
        marks: list[CacheMark] = []
        # Hashing a prefix costs more than counting it, and most prompts have no marks.
        marked = _has_marks(value)
        running = blake2b(model.encode(), digest_size=16)
        last: Json = None
        for extra, block in _blocks(value):
            tokens += extra + self._counter.block(block)
            if not marked:
                continue
            last = block
            running.update(_content(block))
            control = block.get("cache_control") if is_object(block) else None
            if is_object(control):
                marks.append(CacheMark(running.digest(), tokens, _lifetime(control)))
        whole = value.get("cache_control")
        if is_object(whole) and last is not None:
            marks.append(CacheMark(running.digest(), tokens, _lifetime(whole)))
        return max(1, tokens), marks


def _blocks(value: dict[str, Json]) -> Iterator[tuple[int, Json]]:
    """Yield every block in the order in which the API caches them, each with the tokens of its wrapping."""
    tools = value.get("tools") or ()
    for index, tool in enumerate(tools):
        yield (0 if index else PER_TOOL_LIST), tool
    system = value.get("system") or ()
    for block in (system,) if isinstance(system, str) else system:
        yield 0, block
    for message in value["messages"]:
        content = message["content"]
        if isinstance(content, str):
            yield PER_MESSAGE, content
            continue
        for index, block in enumerate(content):
            yield (0 if index else PER_MESSAGE), block


def _has_marks(value: dict[str, Json]) -> bool:
    return "cache_control" in value or any(
        is_object(block) and "cache_control" in block for _, block in _blocks(value)
    )


def _content(block: Json) -> bytes:
    if is_object(block):
        block = {name: part for name, part in block.items() if name != "cache_control"}
    return orjson.dumps(block, option=orjson.OPT_SORT_KEYS)


def _lifetime(control: Mapping[str, Json]) -> float:
    return 3600.0 if control.get("ttl") == "1h" else 300.0


def _first_error(value: dict[str, Json], *, counting: bool) -> str | None:
    for name in ("model", "messages") if counting else ("model", "max_tokens", "messages"):
        if name not in value:
            return f"{name}: Field required"
    if not isinstance(value["model"], str):
        return "model: Input should be a valid string"
    if not counting:
        limit = value["max_tokens"]
        if not isinstance(limit, int) or isinstance(limit, bool):
            return "max_tokens: Input should be a valid integer"
        if limit < 0:
            return "max_tokens: must be greater than or equal to 0"
    messages = value["messages"]
    if not is_array(messages):
        return "messages: Input should be a valid list"
    if not messages:
        return "messages: at least one message is required"
    for index, message in enumerate(messages):
        error = _message_error(message)
        if error is not None:
            return f"messages.{index}{error}"
    return None


def _message_error(message: Json) -> str | None:
    if not is_object(message):
        return ": Input should be an object"
    if message.get("role") not in ("user", "assistant"):
        return ".role: Input should be 'user' or 'assistant'"
    content = message.get("content")
    if content is None:
        return ".content: Field required"
    if not (isinstance(content, str) or is_array(content)):
        return ".content: Input should be a valid string or a list of content blocks"
    if not content:
        return ": all messages must have non-empty content"
    if is_array(content) and not all(is_object(block) for block in content):
        return ".content: every content block should be an object"
    return None
