"""What the SDK says an answer took, in our terms."""

from typing import TYPE_CHECKING

from claude_executor.core.cost import Usage

if TYPE_CHECKING:
    from anthropic.types import Usage as SdkUsage
    from anthropic.types.beta import BetaUsage


def usage_of(usage: "SdkUsage | BetaUsage") -> Usage:
    """The tokens an answer took."""
    written = getattr(
        usage, "cache_creation", None
    )  # the SDK does not validate, and proxies leave things out
    return Usage(
        input_tokens=usage.input_tokens or 0,
        output_tokens=usage.output_tokens or 0,
        cache_creation_tokens=usage.cache_creation_input_tokens or 0,
        cache_read_tokens=usage.cache_read_input_tokens or 0,
        cache_hour_tokens=getattr(written, "ephemeral_1h_input_tokens", None) or 0,
    )
