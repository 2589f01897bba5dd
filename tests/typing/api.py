"""Checked by mypy and pyright, never run: what type checkers see through the public door."""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import assert_type

from anthropic.types import Message

from claude_executor import (
    Executor,
    ExecutorError,
    Failed,
    Kind,
    Limits,
    Params,
    Rejected,
    Result,
    Snapshot,
)


def prompts() -> Iterator[dict[str, object]]:
    """Plain dictionaries are requests."""
    yield {"model": "claude-haiku-5-5", "max_tokens": 10, "messages": [{"role": "user", "content": "Hello"}]}


async def later() -> AsyncIterator[Params]:
    """So are those of asynchronous generators."""
    for prompt in prompts():
        yield prompt


async def use() -> None:
    """Every method of the executor, and what it returns."""
    async with Executor(Limits(rpm=50), max_concurrency=10) as executor:
        assert_type(executor, Executor)
        assert_type(await executor.submit(next(prompts()), priority=1, tenant="a", deadline=1.0), Message)
        async for result in executor.map(prompts(), ordered=True):
            assert_type(result, Result)
            assert_type(result.message, Message | None)
            assert_type(result.error, Exception | None)
        async for result in executor.map(later()):
            assert_type(result.index, int)
        executor.tune(rpm=10)
        executor.tune(Limits.tier("start"))
        assert_type(executor.snapshot(), Snapshot)
        assert_type(await executor.drain(), None)
    tier = Limits.tier("build")
    assert_type(tier, Mapping[str, Limits])
    Executor(tier)
    Executor({"claude-opus-5-5": Limits(rpm=100), "*": Limits()})


def handle(error: ExecutorError) -> str:
    """Errors carry data."""
    if isinstance(error, Failed):
        assert_type(error.kind, Kind)
        assert_type(error.attempts, int)
        assert_type(error.status, int | None)
        return error.kind.value
    if isinstance(error, Rejected):
        assert_type(error.retry_after, float | None)
    return str(error)
