"""Cost estimates: what a request will take, learned from every answer.

Input. Tokens are ``overhead + ratio * bytes``. The ratio is learned per model as a decayed *ratio of sums*,
``sum(tokens) / sum(bytes)``: feeding every answer's error back into the estimate instead oscillates as soon
as hundreds of requests are in flight. It starts high, because an estimate that is too low is paid for with
429s in the opening burst and one that is too high is given back with the first answers.

Output. The reservation is the *mean* of the answers of this model with a similar `max_tokens` (and a similar
expected output, where one was given), never `max_tokens` itself: the API charges tokens as they are produced,
and reserving 64,000 for answers of 500 leaves nine tenths of the limit unused. The variance of the mean is
kept as well, for one margin pooled over all requests in flight (see `pool`).

Cache. If the prefix of a request is in the prompt cache (see `prompt_cache`), only the rest counts.
"""

from collections.abc import Iterator
from math import ceil

from claude_executor.core.model.cost import Cost, Usage
from claude_executor.core.model.limits import cache_reads_count, pool_of
from claude_executor.core.model.request import RequestShape

BYTES_PER_TOKEN = 2.5
"""First guess for models since Opus 4.7, whose tokenizer yields more tokens than its predecessor."""
BYTES_PER_TOKEN_BEFORE = 3.2
"""First guess for older models; English prose has about 3.5 to 4.5."""

FIRST_OUTPUT_GUESS = 256
_MEMORY = 400
"""Answers after which an old one weighs 1/e: more than are in flight in most runs, so that the short
answers, which arrive first, do not stand for all of them."""
_PRIOR_BYTES = 4_000.0
_PRIOR_ERROR = 0.15
_PRIOR_ANSWERS = 0.5


class CostEstimator:
    """Estimator of costs from request shapes."""

    def __init__(self, *, reserve_max_tokens: bool = False) -> None:
        """Set `reserve_max_tokens` for platforms that charge it up front, such as Amazon Bedrock."""
        self._reserve_max_tokens = reserve_max_tokens
        self._input: dict[str, _Ratio] = {}
        self._output: dict[tuple[str, *tuple[int, ...]], _DecayedStats] = {}

    def cost(self, shape: RequestShape, *, cached: bool = False) -> Cost:
        """Return the cost to reserve for a request; `cached` means that its prefix is in the prompt cache."""
        model, most, text, other, *_ = shape
        if cached and not cache_reads_count(pool_of(model)):
            text -= shape.prefix_bytes
        ratio = self._input.get(model) or self._ratio(model)
        input_tokens = other + ratio.value * text
        input_variance = ratio.error * input_tokens * input_tokens
        if self._reserve_max_tokens:
            return Cost(1.0, input_tokens, float(most), input_variance)
        spread = self._output.get(_output_key(shape)) or _DecayedStats(_first_output(shape))
        mean, variance = spread.mean, spread.variance
        if mean > most:
            mean = float(most)
        # A value between 0 and max_tokens with this mean cannot vary more than mean * (max_tokens - mean).
        widest = mean * (most - mean)
        return Cost(1.0, input_tokens, mean, input_variance, min(variance, widest))

    def learn(self, shape: RequestShape, usage: Usage) -> None:
        """Learn from the real usage of a request of this shape."""
        everything = usage.input_tokens + usage.cache_creation_tokens + usage.cache_read_tokens
        if shape.text_bytes and everything:
            self._ratio(shape.model).add(float(everything), shape.other_tokens, shape.text_bytes)
        key = _output_key(shape)
        spread = self._output.get(key)
        if spread is None:
            spread = self._output[key] = _DecayedStats(_first_output(shape))
        spread.add(float(usage.output_tokens))

    def _ratio(self, model: str) -> "_Ratio":
        ratio = self._input.get(model)
        if ratio is None:
            ratio = self._input[model] = _Ratio(_first_ratio(model))
        return ratio

    def bytes_per_token(self) -> Iterator[tuple[str, float]]:
        """Yield each model with its learned bytes per token."""
        for model, ratio in self._input.items():
            yield model, 1.0 / ratio.value


class _Ratio:
    """Tokens per byte as a decayed ratio of sums, with its error."""

    __slots__ = ("_bytes", "_squared_errors", "_squares", "_tokens", "error", "value")

    def __init__(self, prior: float) -> None:
        self.value = prior
        self.error = _PRIOR_ERROR * _PRIOR_ERROR
        """Mean square of the relative error, weighted by size squared: large requests matter most."""
        self._bytes = _PRIOR_BYTES
        self._tokens = prior * _PRIOR_BYTES
        self._squares = self._tokens * self._tokens
        self._squared_errors = self.error * self._squares

    def add(self, tokens: float, other_tokens: int, text_bytes: int) -> None:
        keep = 1.0 - 1.0 / _MEMORY
        guess = other_tokens + self.value * text_bytes
        self._squares = self._squares * keep + guess * guess
        self._squared_errors = self._squared_errors * keep + (tokens - guess) ** 2
        self._tokens = self._tokens * keep + max(0.0, tokens - other_tokens)
        self._bytes = self._bytes * keep + text_bytes
        self.value = self._tokens / self._bytes
        self.error = self._squared_errors / self._squares


class _DecayedStats:
    """Decayed mean and variance of output lengths, with a prior worth a few answers."""

    __slots__ = ("_count", "_squares", "_sum", "mean", "variance")

    def __init__(self, prior: float) -> None:
        self.mean = prior
        self.variance = prior * prior  # a spread as wide as the mean
        self._count = _PRIOR_ANSWERS
        self._sum = prior * _PRIOR_ANSWERS
        self._squares = 2.0 * prior * prior * _PRIOR_ANSWERS

    def add(self, tokens: float) -> None:
        keep = 1.0 - 1.0 / _MEMORY
        self._count = self._count * keep + 1.0
        self._sum = self._sum * keep + tokens
        self._squares = self._squares * keep + tokens * tokens
        self.mean = self._sum / self._count
        self.variance = max(0.0, self._squares / self._count - self.mean * self.mean)


def _output_key(shape: RequestShape) -> tuple[str, *tuple[int, ...]]:
    if shape.expected_output is None:
        return shape.model, shape.max_tokens.bit_length()
    # Calls with an expected output are not like other requests.
    return shape.model, shape.max_tokens.bit_length(), ceil(shape.expected_output).bit_length()


def _first_output(shape: RequestShape) -> float:
    expected = shape.expected_output
    return min(FIRST_OUTPUT_GUESS if expected is None else expected, float(shape.max_tokens))


def _first_ratio(model: str) -> float:
    pool = pool_of(model)
    family, _, version = pool.partition("-")
    older = family in {"opus", "sonnet", "haiku"} and version[:1] in {"3", "4"}
    newest_of_the_old = any(part in model for part in ("opus-4-7", "opus-4-8"))
    return 1.0 / (BYTES_PER_TOKEN_BEFORE if older and not newest_of_the_old else BYTES_PER_TOKEN)
