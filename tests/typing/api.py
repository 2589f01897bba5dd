"""Checked by mypy and pyright, never run: what type checkers see through the public door."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import Unpack, assert_type

from anthropic import Anthropic, AsyncAnthropic, Middleware
from anthropic.lib.streaming import AsyncMessageStream
from anthropic.types import Message

from claude_executor import (
    Estimate,
    Event,
    Executor,
    ExecutorError,
    ExecutorOptions,
    Failed,
    FailureKind,
    Limits,
    Params,
    Rejected,
    RequestKeywords,
    RequestOptions,
    Result,
    Session,
    Snapshot,
    StreamInterrupted,
    Usage,
    observe,
    sync,
)


def prompts() -> Iterator[dict[str, object]]:
    """Plain dictionaries are requests."""
    yield {"model": "claude-haiku-5-5", "max_tokens": 10, "messages": [{"role": "user", "content": "Hello"}]}


async def later() -> AsyncIterator[Params]:
    """So are those of asynchronous generators."""
    for prompt in prompts():
        yield prompt


async def summary(text: str, *, words: int = 100) -> list[str]:
    """Somebody's own function."""
    return text.split()[:words]


async def use() -> None:
    """Every method of the executor, and what it returns."""
    async with Executor(Limits(rpm=50), max_concurrency=10) as executor:
        assert_type(executor, Executor)
        assert_type(await executor.submit(next(prompts()), priority=1, tenant="a", deadline=1.0), Message)
        assert_type(await executor.submit(next(prompts()), options=RequestOptions(1)), Message)
        assert_type(await executor.count_tokens(next(prompts()), deadline=1.0), int)
        async for result in executor.map(prompts(), ordered=True, options=RequestOptions(tenant="a")):
            assert_type(result, Result)
            assert_type(result.message, Message | None)
            assert_type(result.error, Exception | None)
        async for result in executor.map(later()):
            assert_type(result.index, int)
        executor.reconfigure(rpm=10)
        executor.reconfigure(Limits.tier("start"))
        assert_type(executor.snapshot(), Snapshot)
        assert_type(await executor.drain(), None)
        assert_type(executor.middleware(), Middleware)
        AsyncAnthropic(
            middleware=[
                executor.middleware(RequestOptions(priority=1)),
                executor.middleware(tenant="a", deadline=5.0),
                executor.middleware(lambda: RequestOptions()),
            ]
        )
    tier = Limits.tier("build")
    assert_type(tier, Mapping[str, Limits])
    Executor(tier)
    Executor({"claude-opus-5-5": Limits(rpm=100), "*": Limits()})


def cost_of(text: str, *, words: int = 100) -> Estimate:
    """What a call of the function will probably take."""
    return Estimate.about("claude-haiku-5-5", input_tokens=len(text), output_tokens=words)


async def use_streams(executor: Executor) -> None:
    """The SDK's own stream object, with what it has."""
    params: Params = {**next(prompts()), "stream": True, "betas": ["context-1m"]}
    async with executor.stream(params, priority=1, tenant="a", deadline=1.0, idle_timeout=5.0) as stream:
        assert_type(stream, AsyncMessageStream[None])
        async for text in stream.text_stream:
            assert_type(text, str)
        async for event in stream:
            if event.type == "message_stop":
                assert_type(event.message.stop_reason == "end_turn", bool)
        whole: Message = await stream.get_final_message()
        assert_type(whole.usage.output_tokens, int)
        assert_type(await stream.get_final_text(), str)
    executor.stream(params, silense=5.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def use_calls(executor: Executor, client: AsyncAnthropic) -> None:
    """What a function returns is what its call returns, and a decorator keeps the signature."""
    about = Estimate.about("claude-haiku-5-5", input_tokens=10, output_tokens=5)
    assert_type(about, Estimate)
    assert_type(about.input_tokens, float)
    assert_type(Estimate.of(next(prompts())).limits_in(Limits()), Limits)
    assert_type(await executor.call(summary, "text", cost=about, words=3), list[str])
    assert_type(await executor.call(summary, "text", cost=cost_of), list[str])
    assert_type(
        await executor.call(summary, "text", cost=next(prompts()), options=RequestOptions(1)), list[str]
    )
    assert_type(await executor.call(executor.submit, next(prompts())), Message)

    async def ask(text: str) -> Message:
        return await client.messages.create(model=text, max_tokens=1, messages=[])

    assert_type(await executor.call(ask, "text", cost=about), Message)

    limited = executor.limited(about)(summary)
    assert_type(await limited("text", words=3), list[str])
    await limited(text="text")
    await limited(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await limited("text", word=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

    @executor.limited(cost=cost_of, options=lambda: RequestOptions(tenant="a"))
    async def decorated(text: str) -> int:
        return len(text)

    assert_type(await decorated("text"), int)
    await decorated()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def use_session(executor: Executor) -> None:
    """A session has the same doors."""
    session = executor.session(priority=1, tenant="a", deadline=60.0)
    assert_type(session, Session)
    assert_type(session.options, RequestOptions)
    assert_type(executor.session(RequestOptions(tenant="a")), Session)
    assert_type(await session.count_tokens(next(prompts())), int)
    assert_type(await session.submit(next(prompts())), Message)
    assert_type(session.map(later(), ordered=True), AsyncGenerator[Result, None])
    async with session.stream(next(prompts())) as stream:
        assert_type(stream, AsyncMessageStream[None])
    about = Estimate.about("claude-haiku-5-5", input_tokens=10, output_tokens=5)
    assert_type(await session.call(summary, "text", cost=about), list[str])
    limited = session.limited(about)(summary)
    assert_type(await limited("text", words=3), list[str])
    await limited(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(session.middleware(), Middleware)


def use_observers() -> None:
    """Listeners take events; those for OpenTelemetry make the context of attempts, too."""
    telemetry, prometheus = observe.to_opentelemetry(), observe.to_prometheus()
    executor = Executor(on_event=observe.all_of(observe.to_log(), telemetry, prometheus, seen))
    Executor(on_event=telemetry, attempt_context=telemetry.attempt_context)
    telemetry.watch(executor.snapshot)
    prometheus.watch(executor.snapshot)


def seen(event: Event) -> None:
    """A listener of one's own."""
    assert_type(event.at, float)


def passed_on(params: Params, **keywords: Unpack[RequestKeywords]) -> Message:
    """A function of one's own may take what a door takes."""
    with own_executor(max_concurrency=5) as executor:
        return executor.submit(params, **keywords)


def own_executor(**options: Unpack[ExecutorOptions]) -> sync.Executor:
    """And what an executor takes."""
    Executor(**options)
    return sync.Executor(**options)


def use_sync() -> None:
    """The same without async."""
    with sync.Executor(Limits(rpm=50), max_concurrency=10, api_key=None) as executor:
        assert_type(executor, sync.Executor)
        assert_type(executor.submit(next(prompts()), priority=1, tenant="a", deadline=1.0), Message)
        assert_type(executor.submit(next(prompts()), options=RequestOptions(1)), Message)
        executor.submit(next(prompts()), priorty=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        assert_type(executor.count_tokens(next(prompts())), int)
        for result in executor.map(prompts(), ordered=True, buffer=5, tenant="a"):
            assert_type(result, Result)
            assert_type(result.message, Message | None)
        for result in executor.map(later()):
            assert_type(result.error, Exception | None)
        with executor.stream(next(prompts())) as stream:
            assert_type(stream, sync.Stream)
            for text in stream.text_stream:
                assert_type(text, str)
            for event in stream:
                if event.type == "message_stop":
                    assert_type(event.message.content[0].type == "text", bool)
            assert_type(stream.get_final_message(), Message)
            assert_type(stream.get_final_text(), str)
        executor.reconfigure(rpm=10)
        assert_type(executor.snapshot(), Snapshot)
        assert_type(executor.drain(refuse_waiting=True), None)
        assert_type(executor.middleware(), Middleware)
        Anthropic(middleware=[executor.middleware(RequestOptions(tenant="a"))])
    sync.Executor(max_concurency=10)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert_type(sync.submit_sync(next(prompts()), base_url="http://localhost"), Message)
    for result in sync.map_sync(prompts(), Limits(rpm=50), max_queued=5):
        assert_type(result, Result)


def handle(error: ExecutorError) -> str:
    """Errors carry data."""
    if isinstance(error, StreamInterrupted):
        assert_type(error.message, Message | None)
        assert_type(error.usage, Usage | None)
    if isinstance(error, Failed):
        assert_type(error.kind, FailureKind)
        assert_type(error.attempts, int)
        assert_type(error.status, int | None)
        return error.kind.value
    if isinstance(error, Rejected):
        assert_type(error.retry_after, float | None)
    return str(error)
