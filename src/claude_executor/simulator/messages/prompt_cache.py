"""The prompt cache: which prefixes have been seen, and what that saves."""

from collections.abc import Callable
from dataclasses import dataclass

from claude_executor.simulator.messages.prompts import CacheMark, Prompt

# Prefixes beyond which those that have expired are dropped: memory stays in proportion to those in use.
_FIRST_SWEEP = 10_000


@dataclass(frozen=True, slots=True)
class Split:
    """How a prompt's input tokens divide.

    Attributes:
        fresh: ``input_tokens``: neither read from the cache nor written to it.
        read: ``cache_read_input_tokens``: free of the input limit.
        written: ``cache_creation_input_tokens``: counted against it.
        written_1h: The part of ``written`` that is kept for an hour.
    """

    fresh: int
    read: int = 0
    written: int = 0
    written_1h: int = 0

    @property
    def counted(self) -> int:
        """What counts against the input limit (documented: fresh input and cache writes)."""
        return self.fresh + self.written


class PromptCache:
    """Prefixes in use. A prefix can be read once the first answer that wrote it has begun (documented).

    Args:
        minimum: Shortest prefix kept, in tokens.
        clock: The simulator's clock.
    """

    def __init__(self, minimum: int, clock: Callable[[], float]) -> None:
        self._minimum = minimum
        self._clock = clock
        self._until: dict[bytes, float] = {}
        self._sweep_at = _FIRST_SWEEP

    def look_up(self, prompt: Prompt) -> Split:
        """Divide a prompt's tokens by what is in the cache now."""
        marks = self._kept(prompt)
        if not marks:
            return Split(prompt.tokens)
        now = self._clock()
        read = max((mark.tokens for mark in marks if self._until.get(mark.digest, 0.0) > now), default=0)
        last = marks[-1]
        written = max(0, last.tokens - read)
        for_an_hour = written if last.seconds > 300 else 0
        return Split(prompt.tokens - read - written, read, written, for_an_hour)

    def begin(self, prompt: Prompt) -> None:
        """An answer begins: from now on its prefixes can be read, and are kept for their time anew."""
        now = self._clock()
        for mark in self._kept(prompt):
            self._until[mark.digest] = now + mark.seconds
        if len(self._until) > self._sweep_at:
            self._until = {digest: until for digest, until in self._until.items() if until > now}
            self._sweep_at = max(_FIRST_SWEEP, 2 * len(self._until))

    def _kept(self, prompt: Prompt) -> list[CacheMark]:
        return [mark for mark in prompt.marks if mark.tokens >= self._minimum]
