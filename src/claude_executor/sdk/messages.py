"""Builds messages of the SDK from JSON."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anthropic.types import Message


def message_from_json(value: Mapping[str, Any]) -> "Message":
    """Return the message that the JSON of an answer describes, such as a line of results.

    Nothing is validated, as for the SDK's own responses: fields that this version of the SDK does not know
    are kept.
    """
    from anthropic.types import Message

    return Message.construct(None, **value)
