"""The executor for code without async, over real sockets; and the SDK's synchronous client under it."""

import asyncio
import gc
import inspect
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import anthropic
import httpx2
import pytest
from anthropic.types import Message
from anthropic.types.beta import BetaMessage

import claude_executor
from claude_executor import (
    Closed,
    DeadlineExceeded,
    Failed,
    Limits,
    QueueFull,
    RequestOptions,
    RetryPolicy,
    StreamInterrupted,
)
from claude_executor.simulator import Faults, Latency, Lengths, Settings
from claude_executor.sync import Executor, ExecutorOptions, map_sync, submit_sync

QUICK = Settings(latency=Latency(0.0, 2_000.0), output_tokens=Lengths(40, 0.3))
SOON = RetryPolicy(max_attempts=3, base=0.01, cap=0.01, ratio=10.0)


def prompt(text="Hello", **more):
    return {
        "model": "claude-haiku-5-5",
        "max_tokens": 256,
        "messages": [{"role": "user", "content": text}],
        **more,
    }


@pytest.fixture
def made(simulator_server):
    """Make an executor of the simulator's."""

    def make(limits=None, **options):
        return Executor(limits, api_key="k", base_url=simulator_server.base_url, **options)

    return make


@pytest.fixture
def client(simulator_server):
    """Make the SDK's client with an executor's middleware; it would retry by itself."""
    clients = []

    def make(executor, **options):
        options.setdefault("base_url", simulator_server.base_url)
        options.setdefault("max_retries", 2)
        clients.append(anthropic.Anthropic(api_key="k", middleware=[executor.middleware()], **options))
        return clients[-1]

    yield make
    for one in clients:
        one.close()


def create(client, text="Hello"):
    return client.messages.create(**prompt(text))


def create_beta(client, text="Hello"):
    return client.beta.messages.create(**prompt(text))


def create_raw(client, text="Hello"):
    return client.messages.with_raw_response.create(**prompt(text)).parse()


def create_streaming_response(client, text="Hello"):
    with client.messages.with_streaming_response.create(**prompt(text)) as response:
        return response.parse()


def create_stream(client, text="Hello"):
    events = list(client.messages.create(**prompt(text, stream=True)))
    assert events[-1].type == "message_stop"
    return events[0].message


def stream(client, text="Hello"):
    with client.messages.stream(**prompt(text)) as stream:
        return stream.get_final_message()


def stream_beta(client, text="Hello"):
    with client.beta.messages.stream(**prompt(text)) as stream:
        return stream.get_final_message()


DOORS = [create, create_beta, create_raw, create_streaming_response, create_stream, stream, stream_beta]


def test_the_options_are_the_executors():
    """By name: none is missing, none is made up."""
    taken = set(inspect.signature(claude_executor.Executor).parameters) - {"limits"}
    assert set(ExecutorOptions.__annotations__) == taken


@pytest.mark.simulator(QUICK)
def test_its_doors_take_options_as_the_executors_do(made):
    """As a whole or by keywords, but not both."""
    late = RequestOptions(deadline=-1.0)
    with made(Limits(rpm=1_000)) as executor:
        for how in ({"options": late}, {"deadline": -1.0}):
            with pytest.raises(DeadlineExceeded):
                executor.submit(prompt(), **how)
            with pytest.raises(DeadlineExceeded), executor.stream(prompt(), **how):
                pass
            (result,) = executor.map([prompt()], **how)
            assert isinstance(result.error, DeadlineExceeded)
        with pytest.raises(TypeError, match="not both"):
            executor.submit(prompt(), options=late, tenant="a")
        with pytest.raises(TypeError, match="not both"):
            executor.middleware(late, tenant="a")


@pytest.mark.simulator(QUICK)
def test_it_counts_tokens(made):
    """By the API."""
    with made(Limits(rpm=1_000)) as executor:
        assert executor.count_tokens(prompt()) > 0
        with pytest.raises(DeadlineExceeded):
            executor.count_tokens(prompt(), deadline=-1.0)


@pytest.mark.simulator(QUICK)
def test_its_methods_are_the_executors(made, simulator_server):
    """Submit, map, stream, reconfigure, snapshot, drain."""
    with made(Limits(rpm=1_000)) as executor:
        assert isinstance(executor.submit(prompt()), Message)
        results = list(executor.map((prompt(f"{n}") for n in range(20)), ordered=True))
        assert [result.index for result in results] == list(range(20))
        assert all(result.message for result in results)
        with executor.stream(prompt("Again")) as stream:
            text = "".join(stream.text_stream)
            assert stream.get_final_message().content[0].text == text == stream.get_final_text()
        with executor.stream(prompt("Bye")) as stream:
            assert [event.type for event in stream][-1] == "message_stop"
        with executor.stream(prompt("Left early")) as stream:
            assert next(iter(stream)).type == "message_start"
        assert executor.snapshot().running == 0
        executor.reconfigure(rpm=500)
        assert executor.snapshot().pools["haiku-5.5"].resources["requests"].limit == 500
        executor.drain()
        assert repr(executor) == "<Executor [queued 0 | running 0 | waiting-to-retry 0 | breaker closed]>"
    assert simulator_server.verdict().clean
    with pytest.raises(Closed):
        executor.submit(prompt())
    with pytest.raises(Closed, match="only once"):
        executor.__enter__()


@pytest.mark.simulator(QUICK)
def test_one_off_calls(simulator_server):
    """An executor for one call, and for one iterable."""
    where = {"api_key": "k", "base_url": simulator_server.base_url}
    assert isinstance(submit_sync(prompt(), **where), Message)
    results = list(map_sync([prompt("a"), prompt("b")], Limits(rpm=1_000), ordered=True, **where))
    assert [result.index for result in results] == [0, 1]


@pytest.mark.simulator(QUICK)
def test_many_threads_share_it(made, client):
    """Fifty at once, through three doors."""
    with made() as executor, ThreadPoolExecutor(50) as pool:
        sdk = client(executor)
        doors = [executor.submit, lambda params: create(sdk), lambda params: stream(sdk)]
        messages = list(pool.map(lambda n: doors[n % 3](prompt(f"{n}")), range(75)))
        assert executor.snapshot().answered == 75
        assert executor.snapshot().running == 0
    assert all(message.stop_reason for message in messages)


@pytest.mark.simulator(QUICK)
def test_inside_a_running_loop(made, client):
    """As in a notebook."""

    async def cell():
        with made() as executor:
            return executor.submit(prompt()), create(client(executor)), len(list(executor.map([prompt()])))

    submitted, created, mapped = asyncio.run(cell())
    assert submitted.stop_reason
    assert created.stop_reason
    assert mapped == 1


@pytest.mark.simulator(QUICK)
def test_prompts_are_read_in_one_thread(made):
    """That may block, and holds nothing up; what it raises is raised."""
    threads = set()

    def prompts():
        for number in range(5):
            threads.add(threading.current_thread())
            yield prompt(f"{number}")
        raise KeyError("the user's own")

    with made() as executor:
        results = executor.map(prompts())
        seen = [next(results) for _ in range(5)]
        with pytest.raises(KeyError, match="the user's own"):
            next(results)
    assert len(seen) == 5
    assert len(threads) == 1
    assert threads.isdisjoint(threading.enumerate())


@pytest.mark.simulator(QUICK)
def test_a_map_may_be_left(made):
    """Over an endless iterable; nothing stays in flight, and no thread behind."""

    def endless():
        while True:
            yield prompt()

    before = threading.active_count()
    with made(max_concurrency=5) as executor:
        results = executor.map(endless(), buffer=10)
        assert next(results).message
        results.close()
        assert executor.snapshot().running == 0
        left = executor.map(endless(), buffer=10)
        assert next(left).message
    left.close()
    assert threading.active_count() == before


@pytest.mark.simulator(QUICK, faults=Faults(error_500=1.0))
def test_errors_are_the_executors(made):
    """With their kind and their cause."""
    with made(retry=SOON) as executor:
        with pytest.raises(Failed) as told:
            executor.submit(prompt())
        assert isinstance(told.value.__cause__, anthropic.InternalServerError)


@pytest.mark.simulator(QUICK, faults=Faults(stream_cut=1.0))
def test_a_broken_stream_is_no_success(made):
    """As in `claude_executor.Executor.stream`."""
    with made() as executor, pytest.raises(StreamInterrupted), executor.stream(prompt()) as stream:
        stream.get_final_message()


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.simulator(QUICK, faults=Faults(error_500=0.3))
def test_every_door_of_the_client(made, client, door):
    """Is retried by the executor, and gives what the SDK gives."""
    with made(retry=SOON) as executor:
        message = door(client(executor))
        assert isinstance(message, Message | BetaMessage)
        tally = executor.snapshot()
        assert tally.answered == 1
        assert tally.running == 0


@pytest.mark.parametrize("door", DOORS)
def test_attempts_are_the_policys(made, client, simulator_server, door):
    """Not the SDK's three times ours, where there is an answer and where there is none."""
    simulator_server.set_faults(Faults(error_500=1.0))
    with made(retry=SOON) as executor:
        with pytest.raises(anthropic.InternalServerError):
            door(client(executor))
        assert executor.snapshot().failed == 1
        assert simulator_server.stats()["requests"] == executor.snapshot().attempts == 3


OWN_DOORS = {
    "submit": lambda executor, where: executor.submit(prompt()),
    "map": lambda executor, where: raise_from(executor.map([prompt()])),
    "stream": lambda executor, where: executor.stream(prompt()).__enter__(),
    "submit_sync": lambda executor, where: submit_sync(prompt(), **where),
    "map_sync": lambda executor, where: raise_from(map_sync([prompt()], **where)),
}


@pytest.mark.parametrize("door", OWN_DOORS)
@pytest.mark.simulator(QUICK, faults=Faults(error_500=1.0))
def test_attempts_of_its_own_doors_are_the_policys(made, simulator_server, door):
    """And not their square."""
    where = {"api_key": "k", "base_url": simulator_server.base_url, "retry": SOON}
    with made(retry=SOON) as executor, pytest.raises(Failed) as told:
        OWN_DOORS[door](executor, where)
    assert told.value.attempts == simulator_server.stats()["requests"] == 3


def raise_from(results):
    for result in results:
        raise result.error


def test_without_an_answer_attempts_are_the_policys(made, client, simulator_server):
    """The SDK waits as if it tried again, but does not; and raises its own exception."""
    simulator_server.set_faults(Faults(reset=1.0))
    with made(retry=SOON) as executor:
        with pytest.raises(anthropic.APIConnectionError):
            create(client(executor))
        assert executor.snapshot().failed == 1
        assert simulator_server.stats()["requests"] == executor.snapshot().attempts == 3


@pytest.mark.simulator(Settings(latency=Latency(0.2, 200.0), output_tokens=Lengths(60, 0.0)))
def test_a_stream_of_the_client_holds_its_place(made, client):
    """Until it is read, closed, or dropped."""
    with made() as executor:
        sdk = client(executor)
        running = lambda: executor.snapshot().running  # noqa: E731
        events = sdk.messages.create(**prompt(stream=True))
        assert running() == 1
        list(events)
        assert running() == 0
        events = sdk.messages.create(**prompt(stream=True))
        next(events)
        assert running() == 1
        events.close()
        assert running() == 0
        for read in range(2):
            events = sdk.messages.create(**prompt(stream=True))
            for _ in range(read):
                next(events)
            assert running() == 1
            del events
            gc.collect()
            assert running() == 0
        held = sdk.messages.create(**prompt(stream=True))
        began = time.monotonic()
    assert time.monotonic() - began < 30.0  # it did not wait for somebody to read it
    held.close()


@pytest.mark.simulator(QUICK, faults=Faults(stream_dropped=1.0))
def test_a_broken_stream_of_the_client_is_a_failure(made, client):
    """Told as the SDK tells it, and settled as what it is."""
    with made() as executor:
        with pytest.raises(httpx2.TransportError):
            stream(client(executor))
        assert executor.snapshot().failed == 1
        assert executor.snapshot().running == 0


@pytest.mark.simulator(Settings(latency=Latency(0.3)))
def test_who_is_turned_away_is_told_by_us(made, client):
    """And the SDK does not try again."""
    executor = made(max_concurrency=1, max_queued=0)
    sdk = client(executor)
    with pytest.raises(Closed):
        create(sdk)
    with executor, ThreadPoolExecutor(4) as pool:
        done = [pool.submit(create, sdk) for _ in range(4)]
        errors = [one.exception() for one in done]
    assert [type(error) for error in errors].count(QueueFull) == 3


@pytest.mark.simulator(QUICK)
def test_the_client_under_an_asynchronous_executor(simulator_server, client):
    """In a thread beside its loop; on the loop itself it would block for ever, and says so."""

    async def main():
        where = {"api_key": "k", "base_url": simulator_server.base_url}
        async with claude_executor.Executor(**where) as executor:
            sdk = client(executor)
            with pytest.raises(RuntimeError, match="AsyncAnthropic"):
                create(sdk)
            assert (await asyncio.to_thread(create, sdk)).stop_reason
            called = await executor.call(asyncio.to_thread, create, sdk, cost=prompt())
            assert called.stop_reason
            return executor.snapshot().attempts

    assert asyncio.run(main()) == 2


INTERRUPTED = """
import sys, threading, time
import anthropic
from claude_executor import ExecutorError
from claude_executor.sync import Executor

where = {"api_key": "k", "base_url": sys.argv[1]}
prompt = {"model": "claude-haiku-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}]}

def blocking():
    yield prompt
    threading.Event().wait()

def another():
    try:
        executor.submit(prompt)
    except ExecutorError:
        pass

def drain():
    threading.Thread(target=another, daemon=True).start()
    while not executor.snapshot().running:
        pass
    executor.drain()

def create():
    try:
        client.messages.create(**prompt)
    except KeyboardInterrupt:
        until = time.monotonic() + 10.0
        while executor.snapshot().running and time.monotonic() < until:
            pass
        if executor.snapshot().running:
            print("still running", file=sys.stderr)
        raise

def leave():
    threading.Thread(target=another, daemon=True).start()
    while not executor.snapshot().running:
        pass

for wait in (
    lambda: executor.submit(prompt),
    lambda: list(executor.map([prompt] * 9)),
    lambda: list(executor.map(blocking())),
    lambda: executor.stream(prompt).__enter__(),
    create,
    lambda: client.messages.stream(**prompt).__enter__(),
    drain,
    leave,
):
    sys.stdin.readline()
    try:
        with Executor(**where, max_concurrency=1) as executor:
            with anthropic.Anthropic(**where, middleware=[executor.middleware()]) as client:
                wait()
    except KeyboardInterrupt:
        print("interrupted", threading.active_count(), flush=True)
"""


@pytest.mark.simulator(Settings(latency=Latency(600.0)))
def test_an_interrupt_ends_it(simulator_server):
    """Ctrl-C while something is waited for, be it only for the end: no hang, and not a word on stderr."""

    def until_in_flight(count):
        while simulator_server.stats()["in_flight"] != count:
            time.sleep(0.02)

    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, simulator_server.base_url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            for _ in range(8):
                until_in_flight(0)
                process.stdin.write("\n")
                process.stdin.flush()
                until_in_flight(1)
                time.sleep(0.2)  # the executor is on its way; now the main thread waits for it
                process.send_signal(signal.SIGINT)
                said = process.stdout.readline().split()
                assert said[:1] == ["interrupted"], process.stderr.read()
                assert int(said[1]) <= 3  # the main one, the reader of `blocking`, who read until now
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0
    assert said == ""
