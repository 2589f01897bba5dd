"""One request and many: `Executor.submit`."""

import asyncio
import itertools

import pytest

from claude_executor import (
    Closed,
    DeadlineExceeded,
    Executor,
    Failed,
    FailureKind,
    Limits,
    QueueFull,
    Stopped,
)
from claude_executor.core.model.sharing import Membership
from claude_executor.simulator import Faults, Latency, Lengths, Rates, Settings, Simulator
from claude_executor.testing import loop_time, simulated_client

QUICK = Settings(rates=Rates(rpm=6000, itpm=2_000_000, otpm=400_000), latency=Latency(0.5, 100.0, 0.1))


def prompt(text="Hello", **more):
    return {
        "model": "claude-haiku-5-5",
        "max_tokens": 64,
        "messages": [{"role": "user", "content": text}],
        **more,
    }


@pytest.mark.simulator(QUICK)
async def test_submit_returns_the_sdks_own_message(simulator, executor_on):
    """The answer is the SDK's `Message`, complete and with its usage."""
    from anthropic.types import Message

    async with executor_on(simulator) as executor:
        message = await executor.submit(prompt())
    assert isinstance(message, Message)
    assert message.stop_reason in {"end_turn", "max_tokens"}
    assert message.usage.output_tokens > 0


@pytest.mark.simulator(QUICK)
async def test_gather_keeps_every_answer_with_its_prompt(simulator, executor_on):
    """Two hundred prompts gathered come back in the order they were asked, each answered once."""
    async with executor_on(simulator) as executor:
        alone = [await executor.submit(prompt(f"prompt {i}")) for i in (0, 199)]
        together = await asyncio.gather(*(executor.submit(prompt(f"prompt {i}")) for i in range(200)))
    assert [m.content[0].text for m in (together[0], together[199])] == [m.content[0].text for m in alone]
    assert simulator.stats()["by_status"] == {"200": 202}


@pytest.mark.simulator(Settings(rates=Rates(rpm=300, itpm=None, otpm=None), latency=Latency(0.2)))
async def test_the_limit_is_reached_and_not_crossed(simulator, executor_on):
    """600 requests at 300 a minute with a full bucket take a little over a minute, without a 429."""
    began = loop_time()
    async with executor_on(simulator, Limits(rpm=300)) as executor:
        await asyncio.gather(*(executor.submit(prompt(f"{i}")) for i in range(600)))
    took = loop_time() - began
    assert 60.0 <= took < 66.0
    assert simulator.verdict().clean
    assert "429" not in simulator.stats()["by_status"]


@pytest.mark.simulator(QUICK, faults=Faults(error_500=1.0))
async def test_sdk_retries_are_off(simulator, executor_on):
    """A request that always fails is sent as often as the policy says, not that times the SDK's own."""
    from claude_executor import RetryPolicy

    async with executor_on(simulator, retry=RetryPolicy(max_attempts=3, base=0.01)) as executor:
        with pytest.raises(Failed) as caught:
            await executor.submit(prompt())
    assert caught.value.attempts == simulator.stats()["requests"] == 3
    assert caught.value.kind is FailureKind.SERVER


@pytest.mark.simulator(QUICK, faults=Faults(error_500=0.05, reset=0.03, garbage=0.02, error_502_html=0.02))
async def test_faults_are_ridden_out(simulator, executor_on):
    """With an eighth of all attempts failing in four ways every request is answered, none too often."""
    async with executor_on(simulator) as executor:
        await asyncio.gather(*(executor.submit(prompt(f"{i}")) for i in range(300)))
    verdict = simulator.verdict()
    assert verdict.most_attempts <= 6
    assert verdict.duplicates == 0


@pytest.mark.simulator(QUICK, faults=Faults(invalid_key=True))
async def test_a_bad_key_stops_everything_at_once(simulator, executor_on):
    """A thousand requests with a bad key cost one exchange; the rest are rejected with its reason."""
    async with executor_on(simulator) as executor:
        results = await asyncio.gather(
            *(executor.submit(prompt(f"{i}")) for i in range(1000)), return_exceptions=True
        )
    failed = [r for r in results if isinstance(r, Failed)]
    stopped = [r for r in results if isinstance(r, Stopped)]
    assert len(failed) == simulator.stats()["requests"] == 1
    assert len(stopped) == 999
    assert stopped[0].kind is FailureKind.AUTHENTICATION
    assert "ANTHROPIC_API_KEY" in str(stopped[0])


@pytest.mark.simulator(QUICK)
async def test_an_unknown_model_does_not_stop_the_others(simulator, executor_on):
    """404 for one model rejects that model's requests only."""
    async with executor_on(simulator) as executor:
        wrong = [executor.submit(prompt(model="claude-opus-99")) for _ in range(20)]
        right = [executor.submit(prompt(f"{i}")) for i in range(20)]
        results = await asyncio.gather(*wrong, *right, return_exceptions=True)
    assert sum(isinstance(r, Failed) for r in results[:20]) == 1
    assert all(isinstance(r, (Failed, Stopped)) for r in results[:20])
    assert not any(isinstance(r, Exception) for r in results[20:])


@pytest.mark.simulator(Settings(rates=Rates(rpm=60, itpm=None, otpm=None), burst=1.0, latency=Latency(1.0)))
async def test_a_deadline_that_cannot_be_met_is_rejected_before_anything_is_sent(simulator, executor_on):
    """With one request a second, ten requests due within three seconds are not all sent."""
    async with executor_on(simulator, Limits(rpm=60, burst=1.0)) as executor:
        results = await asyncio.gather(
            *(executor.submit(prompt(f"{i}"), deadline=3.0) for i in range(10)), return_exceptions=True
        )
    late = [r for r in results if isinstance(r, DeadlineExceeded)]
    assert len(late) >= 6
    assert simulator.stats()["by_status"]["200"] == 10 - len(late)


@pytest.mark.simulator(QUICK)
async def test_a_full_queue_rejects(simulator, executor_on):
    """Beyond `max_queued` waiting requests, `submit` raises `QueueFull` at once."""
    async with executor_on(simulator, max_queued=5, max_concurrency=1) as executor:
        results = await asyncio.gather(
            *(executor.submit(prompt(f"{i}")) for i in range(10)), return_exceptions=True
        )
    assert sum(isinstance(r, QueueFull) for r in results) == 4


@pytest.mark.simulator(QUICK)
async def test_submit_outside_the_block_says_what_to_do(simulator, executor_on):
    """Before entering and after leaving, `submit` raises `Closed`, and nothing is sent."""
    executor = executor_on(simulator)
    with pytest.raises(Closed, match="async with"):
        await executor.submit(prompt())
    async with executor:
        pass
    with pytest.raises(Closed):
        await executor.submit(prompt())
    assert simulator.stats()["requests"] == 0


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({}, "model"),
        ({"model": "claude-haiku-5-5", "max_tokens": 5, "messages": []}, "messages"),
        ({"model": "claude-haiku-5-5", "messages": [{"role": "user", "content": "x"}]}, "max_tokens"),
        (
            {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}], "stream": True},
            "stream",
        ),
    ],
)
async def test_parameters_that_are_no_request_are_refused_with_a_reason(simulator, executor_on, params, says):
    """What the API would refuse anyway is refused here, by name."""
    async with executor_on(simulator) as executor:
        with pytest.raises(ValueError, match=says):
            await executor.submit(params)
    assert simulator.stats()["requests"] == 0


@pytest.mark.simulator(QUICK, faults=Faults(outage=60.0))
async def test_an_outage_is_waited_out(simulator, executor_on):
    """A minute of 529 delays two hundred requests and fails none; few are sent meanwhile."""
    async with executor_on(simulator) as executor:
        await asyncio.gather(*(executor.submit(prompt(f"{i}")) for i in range(200)))
    verdict = simulator.verdict()
    assert verdict.sent_in_outage <= 30
    assert simulator.stats()["by_status"]["200"] == 200


@pytest.mark.simulator(QUICK, faults=Faults(outage=600.0))
async def test_a_deadline_in_an_outage_names_the_outage(simulator, executor_on):
    """A request that was sent into an outage fails at its deadline and says that the API is overloaded."""
    began = loop_time()
    async with executor_on(simulator) as executor:
        with pytest.raises(Failed, match="overloaded") as caught:
            await executor.submit(prompt(), deadline=30.0)
    assert caught.value.kind is FailureKind.OVERLOADED
    assert loop_time() - began <= 30.1


@pytest.mark.simulator(QUICK)
async def test_nothing_secret_is_shown(simulator):
    """No prompt, answer or key is in any event, repr or error."""
    seen = []
    secret = "SECRET-PROMPT"
    client = simulated_client(simulator, api_key="SECRET-KEY")
    async with Executor(client=client, clock=loop_time, on_event=seen.append) as executor:
        message = await executor.submit(prompt(secret))
        with pytest.raises(Failed) as caught:
            await executor.submit(prompt(secret, model="claude-none"))
        seen += [result async for result in executor.map([prompt(secret)])]
        seen += [executor, executor.snapshot(), caught.value]
    shown = "\n".join([*map(repr, seen), *map(str, seen)])
    assert "SECRET" not in shown
    assert message.content[0].text not in shown


@pytest.mark.simulator(QUICK)
async def test_repr_tells_the_state_on_one_line(simulator, executor_on):
    """`repr` shows what is queued, running and waiting, and the breaker."""
    async with executor_on(simulator, max_concurrency=2) as executor:
        requests = [asyncio.create_task(executor.submit(prompt(f"{i}"))) for i in range(5)]
        await asyncio.sleep(0)
        assert repr(executor) == "<Executor [queued 4 | running 1 | waiting-to-retry 0 | breaker closed]>"
        await asyncio.gather(*requests)
        assert repr(executor) == "<Executor [queued 0 | running 0 | waiting-to-retry 0 | breaker closed]>"


@pytest.mark.simulator(Settings(rates=Rates(rpm=6000, itpm=None, otpm=None), latency=Latency(0.1)))
async def test_tune_takes_hold_while_running(simulator, executor_on):
    """Lowering rpm in mid-run slows the rest down to it."""
    async with executor_on(simulator, Limits(rpm=6000, burst=1.0)) as executor:
        requests = [asyncio.create_task(executor.submit(prompt(f"{i}"))) for i in range(300)]
        await asyncio.sleep(1.0)
        executor.reconfigure(rpm=60)
        before = executor.snapshot().answered
        await asyncio.sleep(60.0)
        after = executor.snapshot().answered
        executor.reconfigure(rpm=60_000)
        await asyncio.gather(*requests)
    assert 55 <= after - before <= 125


@pytest.mark.simulator(
    Settings(rates={"haiku-5.5": Rates(60, None, None), "haiku-4.5": Rates(6000, None, None)}, burst=1.0)
)
async def test_pools_do_not_wait_for_each_other(simulator, executor_on):
    """A model whose limit is used up does not hold up another model."""
    began = loop_time()
    async with executor_on(simulator, max_concurrency=50) as executor:
        slow = [asyncio.create_task(executor.submit(prompt(f"{i}"))) for i in range(30)]
        await asyncio.sleep(0)
        await asyncio.gather(*(executor.submit(prompt(f"{i}", model="claude-haiku-4-5")) for i in range(30)))
        assert loop_time() - began < 10.0
        await asyncio.gather(*slow)
    assert loop_time() - began > 20.0


@pytest.mark.simulator(Settings(rates=Rates(600, None, None), latency=Latency(0.5)))
async def test_priority_goes_first(simulator, executor_on):
    """Urgent requests do not queue behind a backlog of ordinary ones."""
    async with executor_on(simulator, Limits(rpm=600, burst=1.0)) as executor:
        backlog = [asyncio.create_task(executor.submit(prompt(f"{i}"))) for i in range(300)]
        await asyncio.sleep(5.0)
        waits = []
        for i in range(20):
            asked = loop_time()
            await executor.submit(prompt(f"urgent {i}"), priority=10)
            waits.append(loop_time() - asked)
        await asyncio.gather(*backlog)
    assert max(waits) < 2.0


@pytest.mark.simulator(Settings(rates=Rates(300, None, None), latency=Latency(0.5)))
async def test_tenants_share(simulator, executor_on):
    """A tenant with few requests finishes early beside one with many."""
    done = {}

    async def ask(executor, tenant, count):
        await asyncio.gather(*(executor.submit(prompt(f"{tenant}{i}"), tenant=tenant) for i in range(count)))
        done[tenant] = loop_time()

    began = loop_time()
    async with executor_on(simulator, Limits(rpm=300, burst=1.0)) as executor:
        await asyncio.gather(ask(executor, "many", 450), ask(executor, "few", 50))
    assert done["few"] - began < 30.0
    assert done["many"] - began > 80.0


@pytest.mark.simulator(
    Settings(rates=Rates(6000, None, 6000), latency=Latency(0.2, 200.0), output_tokens=Lengths(16, 0.0))
)
async def test_max_tokens_is_not_reserved(simulator, executor_on):
    """Forty answers of 16 tokens with `max_tokens` 1024 fit into 6,000 output tokens a minute at once."""
    began = loop_time()
    async with executor_on(simulator, Limits(rpm=6000, otpm=6000)) as executor:
        await asyncio.gather(*(executor.submit(prompt(f"{i}", max_tokens=1024)) for i in range(40)))
    assert loop_time() - began < 10.0


async def test_observers_mistakes_do_not_disturb_requests(simulator, executor_on):
    """An exception in `on_event` is reported to the loop; the request is answered."""
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))

    def broken(event):
        raise RuntimeError("observer")

    async with executor_on(simulator, on_event=broken) as executor:
        await executor.submit(prompt())
    assert reported


@pytest.mark.simulator(QUICK)
async def test_a_request_in_flight_when_everything_is_stopped_ends(simulator, executor_on):
    """Two are in flight, one meets a bad key, the other a dropped connection: both callers hear of it."""
    async with executor_on(simulator) as executor:
        await executor.submit(prompt("warm"))
        simulator.set_faults(Faults(slow_first_byte=1.0, slow_first_byte_seconds=2.0, reset=1.0))
        dropped = asyncio.create_task(executor.submit(prompt("dropped")))
        await asyncio.sleep(0.1)
        simulator.set_faults(Faults(invalid_key=True))
        results = await asyncio.gather(dropped, executor.submit(prompt("key")), return_exceptions=True)
    assert all(isinstance(r, (Failed, Stopped)) for r in results)


async def test_a_deadline_that_passes_while_the_request_is_accepted_is_told():
    """The clock may move between accepting a request and looking at it: the caller is not left waiting."""
    simulator = Simulator(QUICK, clock=loop_time)
    ticks = itertools.count()
    async with Executor(
        client=simulated_client(simulator), clock=lambda: loop_time() + 1e-3 * next(ticks), max_concurrency=1
    ) as executor:
        for deadline in (1e-4, 5e-4, 9e-4):
            with pytest.raises(DeadlineExceeded):
                await executor.submit(prompt(), deadline=deadline)


@pytest.mark.simulator(QUICK)
async def test_leaving_the_block_on_a_timeout_leaves_nobody_waiting(simulator, executor_on):
    """A timeout around the block ends the wait for what was submitted, and every caller hears of it."""
    tasks = []

    async def run():
        async with executor_on(simulator, Limits(rpm=1, burst=1.0)) as executor:
            tasks.extend(asyncio.create_task(executor.submit(prompt(f"{i}"))) for i in range(3))
            await asyncio.sleep(0)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(run(), 5.0)
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10.0)
    assert sum(isinstance(r, Closed) for r in results) >= 2


@pytest.mark.simulator(QUICK)
async def test_requests_that_always_fail_end_though_they_open_the_breaker_themselves(simulator, executor_on):
    """Poison requests that are the breaker's only probes are given up in the end."""
    async with executor_on(simulator) as executor:
        await executor.submit(prompt("warm"))
        simulator.set_faults(Faults(error_500=1.0))
        results = await asyncio.gather(
            *(executor.submit(prompt(f"{i}")) for i in range(3)), return_exceptions=True
        )
    assert all(isinstance(r, Failed) and r.kind is FailureKind.SERVER for r in results)


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"priority": "high"}, TypeError),
        ({"tenant": ["a"]}, TypeError),
        ({"deadline": float("nan")}, ValueError),
    ],
)
@pytest.mark.simulator(QUICK)
async def test_bad_arguments_of_one_caller_harm_no_other(simulator, executor_on, more, error):
    """They are refused at the door, and the next request is served."""
    async with executor_on(simulator) as executor:
        with pytest.raises(error):
            await executor.submit(prompt(), **more)
        assert (await executor.submit(prompt())).stop_reason


@pytest.mark.simulator(QUICK)
async def test_a_queue_of_none_still_lets_through_what_can_start_at_once(simulator, executor_on):
    """`max_queued=0` refuses waiting, not working."""
    async with executor_on(simulator, max_queued=0) as executor:
        assert (await executor.submit(prompt())).stop_reason


async def test_an_executor_that_could_not_be_entered_kept_its_client_open():
    """Where the shared budget cannot be opened, the client that was built is closed."""

    class Away:
        membership = Membership()

        async def open(self):
            raise OSError("no Redis here")

    executor = Executor(api_key="k", budget=Away(), clock=loop_time)
    with pytest.raises(OSError, match="no Redis here"):
        await executor.__aenter__()
    assert executor._engine.client._own.is_closed()
    with pytest.raises(Closed):
        await executor.submit(prompt())
