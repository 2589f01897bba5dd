"""The usage of answers, as the SDK reports it, in our terms."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from claude_executor.core.model.cost import Usage

if TYPE_CHECKING:
    from anthropic.types import Usage as SdkUsage
    from anthropic.types.beta import BetaUsage

BYTES_PER_TOKEN = 3
"""For output that was cut off before the API had counted it; an estimate on the high side."""


def usage_from_sdk(usage: "SdkUsage | BetaUsage") -> Usage:
    """Return what an answer took and how it was served; see `Usage.from_api`."""
    return Usage.from_api(usage)


def usage_from_json(usage: Mapping[str, object]) -> Usage:
    """Return the usage of an answer that is read without the SDK's client.

    Raises:
        TypeError: `usage` is no mapping.
    """
    return Usage.from_api(dict(**usage))


def usage_by_now(usage: Usage, written: int) -> Usage:
    """Estimate the usage of an answer that is still being written: the API counts output at the end.

    Args:
        usage: The counts the API has sent so far.
        written: Bytes of output received.
    """
    return usage._replace(output_tokens=max(usage.output_tokens, written // BYTES_PER_TOKEN))
