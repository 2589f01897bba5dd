"""One dialect of options: every door takes `options`, or the fields of it as keywords, and never both."""

import asyncio
import inspect
from functools import partial

import pytest

from claude_executor import DeadlineExceeded, Estimate, Limits, RequestKeywords, RequestOptions
from claude_executor.simulator import Latency, Settings
from claude_executor.testing import simulated_client

MODEL = "claude-haiku-5-5"
ABOUT = Estimate.about(MODEL, input_tokens=10, output_tokens=5)
ALL = RequestOptions(priority=2, tenant="chat", deadline=60.0)


def prompt(text="Hello"):
    return {"model": MODEL, "max_tokens": 16, "messages": [{"role": "user", "content": text}]}


async def by_submit(executor, simulator, **how):
    await executor.submit(prompt(), **how)


async def by_stream(executor, simulator, **how):
    async with executor.stream(prompt(), **how) as stream:
        await stream.get_final_message()


async def by_map(executor, simulator, **how):
    async for result in executor.map([prompt()], **how):
        if result.error is not None:
            raise result.error


async def by_call(executor, simulator, **how):
    client = simulated_client(simulator)
    await executor.call(partial(client.messages.create, **prompt()), cost=ABOUT, **how)


async def by_limited(executor, simulator, **how):
    await executor.limited(ABOUT, **how)(simulated_client(simulator).messages.create)(**prompt())


async def by_middleware(executor, simulator, **how):
    client = simulated_client(simulator, middleware=[executor.middleware(**how)])
    await client.messages.create(**prompt())


async def by_session(executor, simulator, **how):
    await executor.session(**how).submit(prompt())


DOORS = [by_submit, by_stream, by_map, by_call, by_limited, by_middleware, by_session]
QUICK = Settings(latency=Latency(0.1))


@pytest.fixture
def accepted(monkeypatch):
    """The options of all requests that were accepted."""
    from claude_executor.runtime.dispatch.pump import Pump

    seen, accept = [], Pump.accept

    def note(self, shape, options):
        seen.append(options)
        return accept(self, shape, options)

    monkeypatch.setattr(Pump, "accept", note)
    return seen


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.simulator(QUICK)
async def test_every_door_takes_options_and_keywords_alike(simulator, executor_on, accepted, door):
    """As a whole, by keywords, some of them, or none."""
    async with executor_on(simulator, Limits(rpm=1_000)) as executor:
        await door(executor, simulator, options=ALL)
        await door(executor, simulator, priority=2, tenant="chat", deadline=60.0)
        await door(executor, simulator, tenant="chat")
        await door(executor, simulator)
        await door(executor, simulator, options=None, priority=None, tenant=None, deadline=None)
    first, second, *rest = accepted
    for given in (first, second):
        assert (given.priority, given.tenant, given.deadline) == (2, "chat", pytest.approx(60.0))
    assert rest == [RequestOptions(tenant="chat"), RequestOptions(), RequestOptions()]


@pytest.mark.parametrize("keyword", [{"priority": 0}, {"tenant": ""}, {"deadline": 5.0}])
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.simulator(QUICK)
async def test_options_in_both_ways_are_a_type_error(simulator, executor_on, accepted, door, keyword):
    """Whichever should win would surprise somebody."""
    (name,) = keyword
    async with executor_on(simulator) as executor:
        with pytest.raises(TypeError, match=f"give either options= or {name}=, not both"):
            await door(executor, simulator, options=RequestOptions(), **keyword)
    assert accepted == []


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.simulator(QUICK)
async def test_options_of_another_type_are_a_type_error(simulator, executor_on, door):
    """Not an AttributeError from within."""
    async with executor_on(simulator) as executor:
        with pytest.raises(TypeError, match="options must be RequestOptions, got tuple"):
            await door(executor, simulator, options=(1, "a", None))


@pytest.mark.parametrize("door", [by_limited, by_middleware])
@pytest.mark.simulator(QUICK)
async def test_a_function_may_give_the_options(simulator, executor_on, accepted, door):
    """At every call; but not together with keywords."""
    async with executor_on(simulator) as executor:
        await door(executor, simulator, options=lambda: ALL)
        with pytest.raises(TypeError, match="not both"):
            await door(executor, simulator, options=lambda: ALL, tenant="a")
    assert accepted == [ALL]


@pytest.mark.simulator(QUICK)
async def test_the_deadline_of_a_limited_function_begins_with_each_call(simulator, executor_on):
    """Unlike that of a session."""
    create = simulated_client(simulator).messages.create
    async with executor_on(simulator) as executor:
        limited = executor.limited(ABOUT, deadline=5.0)(create)
        session = executor.session(deadline=5.0)
        await asyncio.sleep(10.0)
        await limited(**prompt())
        with pytest.raises(DeadlineExceeded):
            await session.submit(prompt())


@pytest.mark.parametrize("door", ["submit", "stream", "map", "call", "limited", "middleware", "session"])
def test_the_keywords_are_the_same_everywhere(door):
    """And `RequestKeywords` names all of them."""
    from claude_executor import Executor

    parameters = inspect.signature(getattr(Executor, door)).parameters
    assert RequestKeywords.__annotations__.keys() <= parameters.keys()
    assert set(RequestKeywords.__annotations__) == {"options", *RequestOptions._fields}
    assert all(parameters[name].default is None for name in RequestKeywords.__annotations__)
