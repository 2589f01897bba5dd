"""Reads the usage of a response, as the SDK or JSON holds it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from claude_executor.core.model.cost import Usage

if TYPE_CHECKING:
    from anthropic.types import Usage as SdkUsage
    from anthropic.types.beta import BetaUsage

BYTES_PER_TOKEN = 3
"""Bytes of output per token, where a response breaks off before the API counts it. Rather too few."""


def usage_from_sdk(usage: "SdkUsage | BetaUsage") -> Usage:
    """Return the usage of a response, and how it was served. Missing counts are 0.

    The SDK does not validate, proxies leave fields out, and other clients know only two counts.
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


def usage_from_json(said: Mapping[str, object]) -> Usage:
    """Return the usage of a response that is read as JSON.

    Raises:
        TypeError: It is not a mapping.
    """
    from anthropic.types import Usage as SdkUsage

    return usage_from_sdk(SdkUsage.construct(None, **said))


def usage_by_now(usage: Usage, written: int) -> Usage:
    """Return the usage so far of a response that is still being written: the API counts output at the end.

    Args:
        usage: The usage that the API has counted.
        written: Bytes of output that have arrived.
    """
    return usage._replace(output_tokens=max(usage.output_tokens, written // BYTES_PER_TOKEN))


def _count(source: object, name: str) -> int:
    value: object = getattr(source, name, None)
    return value if isinstance(value, int) else 0
