"""What the SDK says an answer took, in our terms."""

from typing import TYPE_CHECKING

from claude_executor.core.cost import Usage

if TYPE_CHECKING:
    from anthropic.types import Usage as SdkUsage
    from anthropic.types.beta import BetaUsage


def usage_of(usage: "SdkUsage | BetaUsage") -> Usage:
    """What an answer took, and how it was served; what is not said counts as nothing.

    The SDK does not validate, proxies leave things out, and other clients know of two counts only.
    """
    written, tools = getattr(usage, "cache_creation", None), getattr(usage, "server_tool_use", None)
    return Usage(
        input_tokens=_count(usage, "input_tokens"),
        output_tokens=_count(usage, "output_tokens"),
        cache_creation_tokens=_count(usage, "cache_creation_input_tokens"),
        cache_read_tokens=_count(usage, "cache_read_input_tokens"),
        cache_hour_tokens=_count(written, "ephemeral_1h_input_tokens"),
        searches=_count(tools, "web_search_requests"),
        speed=getattr(usage, "speed", None),
        geo=getattr(usage, "inference_geo", None),
        tier=getattr(usage, "service_tier", None),
    )


def _count(source: object, name: str) -> int:
    value: object = getattr(source, name, None)
    return value if isinstance(value, int) else 0
