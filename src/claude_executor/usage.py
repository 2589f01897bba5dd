"""What the SDK says an answer took, in our terms."""

from typing import TYPE_CHECKING

from claude_executor.core.cost import Usage

if TYPE_CHECKING:
    from anthropic.types import Usage as SdkUsage
    from anthropic.types.beta import BetaUsage


def usage_of(usage: "SdkUsage | BetaUsage") -> Usage:
    """What an answer took, and how it was served."""
    # The SDK does not validate, and proxies leave things out.
    written, tools = getattr(usage, "cache_creation", None), getattr(usage, "server_tool_use", None)
    return Usage(
        input_tokens=usage.input_tokens or 0,
        output_tokens=usage.output_tokens or 0,
        cache_creation_tokens=usage.cache_creation_input_tokens or 0,
        cache_read_tokens=usage.cache_read_input_tokens or 0,
        cache_hour_tokens=getattr(written, "ephemeral_1h_input_tokens", None) or 0,
        searches=getattr(tools, "web_search_requests", None) or 0,
        speed=getattr(usage, "speed", None),
        geo=getattr(usage, "inference_geo", None),
        tier=getattr(usage, "service_tier", None),
    )
