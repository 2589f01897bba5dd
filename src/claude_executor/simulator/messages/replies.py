"""Generated answers: their length, their text, and their events when streamed."""

from dataclasses import dataclass
from hashlib import blake2b
from math import exp, log
from statistics import NormalDist
from typing import Any

import orjson

from claude_executor.simulator.messages.prompt_cache import Split
from claude_executor.simulator.messages.prompts import Prompt
from claude_executor.simulator.world.settings import Lengths

# Eight words of five letters, one token and six bytes each, so that a text of any length is one slice.
_WORDS = " quiet river stone field cloud north light water"
_BYTES_PER_WORD = 6
_WORDS_IN_LOOP = 8
# The approximate tokens of the head: "Answer to " and sixteen hexadecimal digits.
_HEAD_TOKENS = 10

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class GeneratedReply:
    """One generated answer.

    Attributes:
        id: The message id.
        model: The model that was asked for.
        text: The digest of the prompt, and filler of about the right length.
        tokens: The length in tokens, which is exact.
        stop_reason: ``end_turn``, or ``max_tokens`` if the answer was cut.
        split: The division of the prompt's tokens by the cache.
    """

    id: str
    model: str
    text: str
    tokens: int
    stop_reason: str
    split: Split

    def usage(self, output_tokens: int) -> dict[str, Any]:
        """Return the cumulative ``usage`` object of a ``message_delta`` after ``output_tokens``."""
        split = self.split
        return {
            "input_tokens": split.fresh,
            "cache_creation_input_tokens": split.written,
            "cache_read_input_tokens": split.read,
            "output_tokens": output_tokens,
            "output_tokens_details": None,
            "server_tool_use": None,
        }

    def full_usage(self, output_tokens: int) -> dict[str, Any]:
        """Return the longer ``usage`` object of a message."""
        split = self.split
        usage = self.usage(output_tokens)
        usage["cache_creation"] = {
            "ephemeral_5m_input_tokens": split.written - split.written_1h,
            "ephemeral_1h_input_tokens": split.written_1h,
        }
        usage["service_tier"] = "standard"
        usage["inference_geo"] = "global"
        return usage

    def body(self) -> bytes:
        """Return the answer as one JSON document."""
        message = self._envelope(self.tokens)
        message["content"] = [{"type": "text", "text": self.text}] if self.tokens else []
        message["stop_reason"] = self.stop_reason
        return orjson.dumps(message)

    def opening(self) -> bytes:
        """Return the first events of a stream, up to the first text."""
        start = {"type": "text", "text": ""}
        return (
            event("message_start", {"type": "message_start", "message": self._envelope(1)})
            + event(
                "content_block_start", {"type": "content_block_start", "index": 0, "content_block": start}
            )
            + PING
        )

    def pieces(self, count: int) -> list[bytes]:
        """Return the text as at most ``count`` delta events."""
        size = max(1, -(-len(self.text) // count))
        return [
            event(
                "content_block_delta",
                {
                    "type": "content_block_delta",
                    "index": 0,
                    "delta": {"type": "text_delta", "text": self.text[at : at + size]},
                },
            )
            for at in range(0, len(self.text), size)
        ]

    def closing(self) -> bytes:
        """Return the last events of a stream."""
        delta = {"stop_reason": self.stop_reason, "stop_sequence": None}
        usage = self.usage(self.tokens)
        return (
            event("content_block_stop", {"type": "content_block_stop", "index": 0})
            + event("message_delta", {"type": "message_delta", "delta": delta, "usage": usage})
            + event("message_stop", {"type": "message_stop"})
        )

    def _envelope(self, output_tokens: int) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": self.full_usage(output_tokens),
        }


def event(name: str, data: dict[str, Any]) -> bytes:
    """Encode one server-sent event."""
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"


PING = event("ping", {"type": "ping"})
"""The event without content that may come between any two others."""


def error_event(kind: str, message: str) -> bytes:
    """Encode the event by which the API reports an error after a 200."""
    return event("error", {"type": "error", "error": {"type": kind, "message": message, "details": None}})


def reply_length(prompt: Prompt, lengths: Lengths, seed: int) -> int:
    """Return the length of the answer before ``max_tokens`` cuts it: the same for the same body and seed."""
    if not lengths.sigma:
        return round(lengths.mean)
    number = blake2b(
        prompt.digest.encode(), digest_size=8, salt=seed.to_bytes(16, "big", signed=True)
    ).digest()
    chance = (int.from_bytes(number, "big") + 0.5) / 2**64
    middle = log(lengths.mean) - lengths.sigma**2 / 2
    return max(1, round(exp(middle + lengths.sigma * _NORMAL.inv_cdf(min(chance, 1 - 1e-15)))))


def compose(prompt: Prompt, split: Split, number: int, lengths: Lengths, seed: int) -> GeneratedReply:
    """Generate the answer to a prompt.

    Args:
        prompt: The request.
        split: The division of its tokens by the cache.
        number: A number that no other answer of this simulator has.
        lengths: The distribution of lengths.
        seed: The simulator's seed.
    """
    wanted = reply_length(prompt, lengths, seed)
    tokens = min(wanted, prompt.max_tokens)
    words = max(0, tokens - _HEAD_TOKENS)
    filler = (_WORDS * (words // _WORDS_IN_LOOP + 1))[: words * _BYTES_PER_WORD]
    return GeneratedReply(
        f"msg_01{number:022d}",
        prompt.model,
        f"Answer to {prompt.digest}{filler}" if tokens else "",  # 0: only the cache is written
        tokens,
        "end_turn" if wanted <= prompt.max_tokens else "max_tokens",
        split,
    )
