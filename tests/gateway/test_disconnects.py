"""Clients that go away, and a gateway that closes: nothing is paid for that nobody reads."""

import asyncio
import gc

import pytest
from tests.gateway.gateway_harness import FLOWING, prompt

from claude_executor.simulator import Faults, Latency, Settings


@pytest.fixture(autouse=True)
async def minded():
    """Nothing is left over that the event loop would complain of."""
    found = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: found.append(context))
    yield
    gc.collect()
    await asyncio.sleep(0)
    assert found == []


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/v1/files"])
async def test_gone_before_all_of_the_request_was_there(serve, path):
    """Nothing is answered, and nothing of a message is sent."""
    async with serve() as served:
        answer = served.ask(path=path)
        answer.feed(b'{"model": ')
        await asyncio.sleep(1.0)
        answer.leave()
        await answer.end()
        assert served.free
    assert answer.status != 200
    assert [one.path for one in served.api.exchanges if one.status == 200] == []
    assert path == "/v1/files" or served.api.exchanges == []


@pytest.mark.parametrize("streamed", [False, True])
async def test_gone_while_it_waits_in_line(serve, streamed):
    """It is not sent, and those behind it move up."""
    async with serve(max_concurrency=1) as served:
        first, second, third = (served.ask(prompt(name, stream=streamed)) for name in "abc")
        await asyncio.sleep(0.1)
        assert served.executor.snapshot().queued == 2
        second.leave()
        await second.end()
        assert served.executor.snapshot().queued == 1
        await first.end()
        await third.end()
        assert served.free
    assert (first.status, second.status, third.status) == (200, None, 200)
    assert len(served.api.exchanges) == 2
    assert served.simulator.verdict().clean


@pytest.mark.parametrize("streamed", [False, True])
async def test_gone_while_the_api_works(serve, streamed):
    """The API is told so at once, and place and estimate are free."""
    settings = Settings(rates=FLOWING.rates, latency=Latency(60.0))
    async with serve(settings) as served:
        answer = served.ask(prompt(stream=streamed))
        await asyncio.sleep(5.0)
        assert served.executor.snapshot().running == 1
        answer.leave()
        await answer.end()
        assert served.free
        await asyncio.sleep(0.1)
        assert served.simulator.stats()["by_status"] == {"0": 1}
        assert served.executor._scheduler.event_buffer.counters.cancelled == 1
    assert answer.status is None


async def test_gone_in_the_middle_of_a_stream(serve):
    """The API need not write on, and what it wrote is counted."""
    async with serve() as served:
        answer = served.ask(prompt(stream=True))
        await answer.until(lambda: len(answer.pieces) == 3)
        assert not served.free
        answer.leave()
        await answer.end()
        assert served.free
        used = served.executor._scheduler._pools["haiku-5.5"].used.last_minute(served.executor.clock())
        assert used.output_tokens > 0
        await asyncio.sleep(0.1)
        assert len(served.api.last.pieces) <= 4
        assert served.executor._scheduler.event_buffer.counters.cancelled == 1
    assert not answer.over


async def test_gone_after_it_has_stopped_reading(serve):
    """The API's answer is closed at once, although nobody was waiting for its next piece."""
    async with serve() as served:
        answer = served.ask(prompt(stream=True))
        await answer.until(lambda: len(answer.pieces) == 2)
        answer.reads.clear()
        await asyncio.sleep(0.2)
        assert not served.free
        answer.leave()
        await answer.end()
        assert served.free


async def test_gone_while_it_waits_to_be_tried_again(serve):
    """It is not."""
    async with serve(faults=Faults(overloaded=1.0)) as served:
        answer = served.ask(prompt())
        await asyncio.sleep(20.0)
        sent = len(served.api.exchanges)
        answer.leave()
        await answer.end()
        await asyncio.sleep(100.0)
        assert len(served.api.exchanges) == sent
        assert served.free


async def test_gone_in_the_middle_of_a_download(serve):
    """What is passed on unpaced is given up as well."""
    left = asyncio.Event()

    async def api(scope, receive, send):
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        assert (await receive())["type"] == "http.disconnect"
        left.set()

    async with serve(api=api) as served:
        answer = served.ask(None, "/v1/files/f1/content", method="GET")
        await answer.until(lambda: answer.pieces)
        answer.leave()
        await answer.end()
        await asyncio.wait_for(left.wait(), 1.0)


async def test_a_server_that_cancels_is_obeyed(serve):
    """Its own end is no client's."""
    async with serve() as served:
        answer = served.ask(prompt())
        await asyncio.sleep(0.1)
        answer._task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answer.end()
        assert served.free


async def test_closing_finishes_what_is_in_flight_and_turns_away_what_waits(serve):
    """Who is turned away may come again, to whoever serves then."""
    async with serve(max_concurrency=2) as served:
        await served.ask(prompt("the first tells the limits")).end()
        kinds = [{}, {"stream": True}]
        answers = [served.ask(prompt(f"{n}", **kinds[n % 2])) for n in range(6)]
        await asyncio.sleep(0.1)
        await served.executor.drain(refuse_waiting=True)
        late = await served.ask(prompt("late")).end()
        for answer in answers:
            await answer.end()
    after = await served.ask(prompt("after the end")).end()
    counted = await served.ask(prompt("after the end"), "/v1/messages/count_tokens").end()
    assert [answer.status for answer in answers] == [200] * 2 + [503] * 4
    assert b"message_stop" in answers[1].body
    for answer in [*answers[2:], late, after, counted]:
        assert answer.error == (503, "api_error", "true")
        assert answer.headers["retry-after"] == ["5"]
    assert len(served.api.exchanges) == 3
