"""JSON values of unknown type, from a client's body."""

from typing import Any, TypeAlias, TypeGuard

Json: TypeAlias = Any
"""Any JSON value."""


def is_object(value: Json) -> TypeGuard[dict[str, Json]]:
    """Whether a value is a JSON object."""
    return isinstance(value, dict)


def is_array(value: Json) -> TypeGuard[list[Json]]:
    """Whether a value is a JSON array."""
    return isinstance(value, list)
