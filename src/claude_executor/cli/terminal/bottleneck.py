"""Names what limited a run, in the words of the closing summary and of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_executor import HeldBy
from claude_executor.cli.terminal.format import amount, percent, span

if TYPE_CHECKING:
    from claude_executor.bulk import Bottleneck

# Resources ("requests", "output tokens") keep their own names.
_NAMES: dict[str, str] = {
    HeldBy.BREAKER: "the circuit breaker (the API was overloaded or failing)",
    HeldBy.RETRY_AFTER: "retry-after (waits the API asked for with a 429)",
    HeldBy.RAMP_UP: "ramp-up (the first ~10 s are paced)",
    HeldBy.BUDGET: "the shared budget",
    HeldBy.SPENDING: "the spending cap (near it, few requests may be in flight)",
}
_RAISE: dict[str, str] = {HeldBy.CONCURRENCY: "; raise it with --max-concurrency if memory and network allow"}


def limited_sentence(limited: Bottleneck) -> str:
    """Say what limited a run, for how long, and what doubling that limit would have saved."""
    name = _NAMES.get(limited.held_by, limited.held_by)
    text = f"limited by {name} for {percent(limited.share)} of the time"
    if limited.limit is None:
        return text + _RAISE.get(limited.held_by, "")
    origin = "as you set" if limited.source == "declared" else "from the API"
    text += f" ({amount(limited.limit)} a minute, {origin})"
    if limited.saving is not None:
        text += f"; doubling it would have saved {span(limited.saving)}"
        if limited.next is not None:
            text += f", then {limited.next} would have been the limit"
    return text
