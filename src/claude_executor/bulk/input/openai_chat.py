"""Converts bodies of OpenAI's chat completions to Messages, if nothing is lost by it.

Batch files for `/v1/chat/completions` that hold only text differ little: the system prompt is a message, and
some fields have another name. Fields without an equivalent are refused, and the message says what to write
instead.
"""

from collections.abc import Mapping, Sequence
from typing import cast

from claude_executor.bulk.input.problems import BadRow

PATHS = frozenset({"/v1/chat/completions", "/chat/completions"})

SYSTEM = frozenset({"system", "developer"})
_RENAMED = {"max_completion_tokens": "max_tokens", "stop": "stop_sequences"}
_WITHOUT_LIKE = {
    "audio": "",
    "frequency_penalty": "",
    "function_call": "; use 'tool_choice' of the Messages API",
    "functions": "; use 'tools' of the Messages API",
    "logit_bias": "",
    "logprobs": "",
    "modalities": "",
    "parallel_tool_calls": "; use 'disable_parallel_tool_use' in 'tool_choice'",
    "prediction": "",
    "presence_penalty": "",
    "reasoning_effort": "; use 'effort' in 'output_config'",
    "response_format": "; use 'output_config' of the Messages API",
    "seed": "",
    "store": "",
    "stream_options": "",
    "top_logprobs": "",
    "verbosity": "",
    "web_search_options": "; use the web search tool of the Messages API",
}
_PARTS = {"image_url": "'image'", "file": "'document'", "input_audio": None, "refusal": "'text'"}
_WARMEST = 1.0


def converted(body: Mapping[str, object]) -> dict[str, object]:
    """Return the body as arguments of ``messages.create``.

    Raises:
        BadRow: A field has no equivalent in the Messages API.
    """
    params = {name: value for name, value in body.items() if value is not None}
    for name, instead in _WITHOUT_LIKE.items():
        if name in params:
            raise BadRow(f"{name!r} has no equivalent in the Messages API; remove it{instead}")
    for name, other in _RENAMED.items():
        if name in params and other in params:
            raise BadRow(f"{name!r} and {other!r} mean the same; remove one of them")
        if name in params:
            params[other] = params.pop(name)
    _convert_values(params)
    if messages := _list(params.get("messages")):
        params["messages"] = [_message(value, number) for number, value in enumerate(messages, start=1)]
    return params


def lift_system(params: dict[str, object]) -> None:
    """Move the system messages at the beginning of a conversation to the system prompt, in place.

    Later system messages are left to the API: recent models accept them.

    Raises:
        BadRow: There is a system prompt already.
    """
    messages = _list(params.get("messages"))
    texts: list[object] = []
    for message in messages:
        if _dict(message).get("role") not in SYSTEM:
            break
        texts.append(_dict(message).get("content"))
    if params.get("system"):
        raise BadRow("there are both 'system' and a system message; put both into 'system'")
    params["system"] = texts[0] if len(texts) == 1 else [block for text in texts for block in _blocks(text)]
    params["messages"] = messages[len(texts) :]


def _convert_values(params: dict[str, object]) -> None:
    if params.pop("n", 1) != 1:
        raise BadRow("'n' must be 1: a request has one answer; write one row for each answer")
    if isinstance(params.get("stop_sequences"), str):
        params["stop_sequences"] = [params["stop_sequences"]]
    warmth = params.get("temperature")
    if isinstance(warmth, (int, float)) and warmth > _WARMEST:
        raise BadRow("'temperature' must be at most 1 in the Messages API")
    if "user" in params:
        metadata = params.get("metadata", {})
        if metadata not in ({}, {"user_id": params["user"]}):
            raise BadRow("'user' and 'metadata' cannot both be kept; remove one of them")
        params["metadata"] = {"user_id": params.pop("user")}
    elif _dict(params.get("metadata")).keys() - {"user_id"}:
        raise BadRow("'metadata' may contain only 'user_id'; put the rest beside 'body'")
    if params.get("service_tier", "auto") not in ("auto", "standard_only"):
        raise BadRow('\'service_tier\' must be "auto" or "standard_only"')
    if isinstance(params.get("tool_choice"), str):
        raise BadRow('\'tool_choice\' must be an object such as {"type": "auto"}')
    if any("function" in _dict(tool) for tool in _list(params.get("tools"))):
        raise BadRow("'tools' must have the Messages form: 'name', 'description', 'input_schema'")


def _message(value: object, number: int) -> object:
    message = {name: part for name, part in _dict(value).items() if part is not None}
    if not message:
        return value  # the validation of all messages reports it
    if message.get("role") in ("tool", "function") or "tool_calls" in message or "function_call" in message:
        raise BadRow(
            f"message {number} belongs to a tool call; write it with 'tool_use' and 'tool_result' blocks, "
            "and 'url' as \"/v1/messages\""
        )
    if "name" in message:
        raise BadRow(f"message {number} has a 'name', which has no equivalent in the Messages API; remove it")
    message.pop("annotations", None)
    if message.get("role") == "developer":
        message["role"] = "system"
    for part in _list(message.get("content")):
        kind = _dict(part).get("type")
        if isinstance(kind, str) and kind in _PARTS:
            instead = _PARTS[kind]
            what = f"write it as a block of type {instead}" if instead else "remove it"
            raise BadRow(
                f"message {number} has a part of type {kind!r}, which the Messages API does not have; {what}"
            )
    return message


def _blocks(content: object) -> Sequence[object]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else _list(content)


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def _dict(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}
