"""The API's names for errors, as they stand in result lines."""

from collections.abc import Mapping

from claude_executor import Failed, FailureKind, Stopped, TooLarge

_TYPES: Mapping[FailureKind, str] = {
    FailureKind.QUOTA: "rate_limit_error",
    FailureKind.RAMP: "rate_limit_error",
    FailureKind.SPEND_LIMIT: "rate_limit_error",
    FailureKind.BILLING: "billing_error",
    FailureKind.AUTHENTICATION: "authentication_error",
    FailureKind.PERMISSION: "permission_error",
    FailureKind.NOT_FOUND: "not_found_error",
    FailureKind.INVALID: "invalid_request_error",
    FailureKind.TOO_LARGE: "invalid_request_error",
    FailureKind.OVERLOADED: "overloaded_error",
    FailureKind.TIMEOUT: "timeout_error",
}
"""The API's name for each kind of failure; everything else is an ``api_error``."""

FINAL_ERRORS = frozenset(
    {
        "authentication_error",
        "billing_error",
        "invalid_request_error",
        "not_found_error",
        "permission_error",
        "request_too_large",
    }
)
"""Errors that the same request meets again, until a person fixes something."""


def error_type(error: Exception) -> str:
    """Return the API's name for an error. A row that was not sent has an ``api_error``."""
    if isinstance(error, Stopped):
        return "api_error"
    if isinstance(error, (Failed, Stopped)):
        reported = getattr(error.__cause__, "type", None)
        return reported if isinstance(reported, str) else _TYPES.get(error.kind, "api_error")
    if isinstance(error, (ValueError, TypeError, TooLarge)):
        return "invalid_request_error"
    return "api_error"
