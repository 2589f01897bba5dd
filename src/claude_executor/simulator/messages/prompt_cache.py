"""The prompt cache: the prefixes in use, and the input tokens that they save."""

from collections.abc import Callable
from dataclasses import dataclass

from claude_executor.simulator.messages.prompts import CacheMark, Prompt

# The number of prefixes at which expired ones are first dropped, so that memory follows those in use.
_FIRST_SWEEP = 10_000


@dataclass(frozen=True, slots=True)
class Split:
    """The division of a prompt's input tokens by the cache.

    Attributes:
        fresh: ``input_tokens``: neither read from the cache nor written to it.
        read: ``cache_read_input_tokens``, which do not count against the input limit.
        written: ``cache_creation_input_tokens``, which do.
        written_1h: The part of ``written`` that is kept for an hour.
    """

    fresh: int
    read: int = 0
    written: int = 0
    written_1h: int = 0

    @property
    def counted(self) -> int:
        """The tokens that count against the input limit: fresh input and cache writes (documented)."""
        return self.fresh + self.written


class PromptCache:
    """The prefixes in use. A prefix can be read once the answer that first wrote it has begun (documented).

    Args:
        minimum: The shortest prefix kept, in tokens.
        clock: The simulator's clock.
    """

    def __init__(self, minimum: int, clock: Callable[[], float]) -> None:
        self._minimum = minimum
        self._clock = clock
        self._until: dict[bytes, float] = {}
        self._sweep_at = _FIRST_SWEEP

    def look_up(self, prompt: Prompt) -> Split:
        """Divide a prompt's tokens by the prefixes in the cache now."""
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
        """Store the prefixes of a prompt whose answer begins, and restart their lifetimes."""
        now = self._clock()
        for mark in self._kept(prompt):
            self._until[mark.digest] = now + mark.seconds
        if len(self._until) > self._sweep_at:
            self._until = {digest: until for digest, until in self._until.items() if until > now}
            self._sweep_at = max(_FIRST_SWEEP, 2 * len(self._until))

    def _kept(self, prompt: Prompt) -> list[CacheMark]:
        return [mark for mark in prompt.marks if mark.tokens >= self._minimum]
