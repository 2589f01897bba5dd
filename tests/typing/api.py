"""Checked by mypy and pyright, never run: what type checkers see through the public door."""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import assert_type

from anthropic import Anthropic, AsyncAnthropic, Middleware
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
    Terms,
    sync,
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
        assert_type(executor.middleware(), Middleware)
        AsyncAnthropic(
            middleware=[executor.middleware(Terms(priority=1)), executor.middleware(lambda: Terms())]
        )
    tier = Limits.tier("build")
    assert_type(tier, Mapping[str, Limits])
    Executor(tier)
    Executor({"claude-opus-5-5": Limits(rpm=100), "*": Limits()})


def use_sync() -> None:
    """The same without async."""
    with sync.Executor(Limits(rpm=50), max_concurrency=10, api_key=None) as executor:
        assert_type(executor, sync.Executor)
        assert_type(executor.submit(next(prompts()), priority=1, tenant="a", deadline=1.0), Message)
        for result in executor.map(prompts(), ordered=True):
            assert_type(result, Result)
        with executor.stream(next(prompts())) as stream:
            assert_type(stream, sync.Stream)
            for text in stream.text_stream:
                assert_type(text, str)
            for event in stream:
                if event.type == "message_stop":
                    assert_type(event.message.content[0].type == "text", bool)
            assert_type(stream.get_final_message(), Message)
            assert_type(stream.get_final_text(), str)
        executor.tune(rpm=10)
        assert_type(executor.snapshot(), Snapshot)
        assert_type(executor.drain(refuse_waiting=True), None)
        Anthropic(middleware=[executor.middleware()])
    sync.Executor(max_concurency=10)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert_type(sync.submit_sync(next(prompts()), base_url="http://localhost"), Message)
    for result in sync.map_sync(prompts(), Limits(rpm=50), max_queued=5):
        assert_type(result, Result)


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
