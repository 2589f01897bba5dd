"""JSON out of a client's body: nothing is known of a value until it was looked at."""

from typing import Any, TypeAlias, TypeGuard

Json: TypeAlias = Any
"""Any JSON value."""


def is_object(value: Json) -> TypeGuard[dict[str, Json]]:
    """Whether a value is a JSON object."""
    return isinstance(value, dict)


def is_array(value: Json) -> TypeGuard[list[Json]]:
    """Whether a value is a JSON array."""
    return isinstance(value, list)
