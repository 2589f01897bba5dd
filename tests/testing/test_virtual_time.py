"""The loop whose time passes only when nothing is ready."""

import asyncio
import functools
import socket
import threading

import anyio
import pytest

from claude_executor.testing import DeadlockError, VirtualTimeLoop, loop_time, run_virtual


async def test_time_stands_still_while_something_is_ready_and_then_jumps():
    """A thousand rounds of a busy loop take no time; an hour of sleep takes exactly an hour of it."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert began > 0
    for _ in range(1_000):
        await asyncio.sleep(0)
    assert loop.time() == began
    await asyncio.sleep(3_600)
    assert loop.time() == began + 3_600


async def test_nobody_is_woken_before_the_instant_asked_for():
    """A timer set for an instant sees at least that instant, even where floats are coarse."""
    loop = asyncio.get_running_loop()
    late = []
    for step in range(1, 200):
        due = loop.time() + 86_400 / 7 * step + 1e-7 * step
        done = loop.create_future()
        loop.call_at(due, done.set_result, None)
        await done
        late.append(loop.time() - due)
    assert set(late) == {0.0}


async def test_a_timer_that_is_set_again_for_now_was_set_for_ever():
    """The clock moves on by a hair, so that what rounding has left over passes."""
    loop = asyncio.get_running_loop()
    due = loop.time() + 1e-7
    done = loop.create_future()

    def look():
        if loop.time() < due:
            loop.call_at(loop.time(), look)
        else:
            done.set_result(None)

    look()
    await done


async def test_timers_run_in_order_across_tasks():
    """Many sleepers wake in the order of their instants."""
    woken = []

    async def sleeper(seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append(seconds)

    await asyncio.gather(*(sleeper(seconds) for seconds in (5, 0.5, 86_400 * 3, 7)))
    assert woken == [0.5, 5, 7, 86_400 * 3]


async def test_work_in_threads_takes_no_virtual_time():
    """While a thread works the clock stands, though a timer is set; anyio's threads count too."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    timer = asyncio.create_task(asyncio.sleep(1))
    gate = threading.Event()
    threading.Timer(0.05, gate.set).start()
    assert await asyncio.to_thread(gate.wait, 5)
    gate.clear()
    threading.Timer(0.05, gate.set).start()
    assert await anyio.to_thread.run_sync(functools.partial(gate.wait, 5))
    assert loop.time() == began
    await timer
    assert loop.time() == began + 1


async def test_a_thread_that_waits_for_the_loops_own_timer_gets_it():
    """A worker may call back into the loop and wait for virtual time to pass."""
    loop = asyncio.get_running_loop()
    loop._patience = 0.05
    began = loop.time()

    def work() -> float:
        asyncio.run_coroutine_threadsafe(asyncio.sleep(30), loop).result(5)
        return loop.time() - began

    assert await asyncio.to_thread(work) == 30


async def test_real_sockets_work_beside_virtual_time():
    """Descriptors are polled: bytes sent through a socket arrive, without time passing."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        await loop.sock_sendall(left, b"hello")
        assert await loop.sock_recv(right, 10) == b"hello"
    assert loop.time() == began


def test_a_deadlock_is_an_error_that_names_the_tasks():
    """Waiting for what can never happen raises instead of hanging."""

    async def wait() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        task = asyncio.create_task(wait(), name="the one that waits")
        await task

    with pytest.raises(DeadlockError, match="the one that waits"):
        run_virtual(main(), patience=0)


def test_an_unknown_thread_has_a_moment_to_speak_up():
    """A thread that the loop knows nothing of may still wake it within its patience."""

    async def main() -> str:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        threading.Timer(0.05, loop.call_soon_threadsafe, (done.set_result, "awake")).start()
        return await done

    assert run_virtual(main(), patience=5) == "awake"


def test_the_clock_of_the_running_loop_can_be_read_from_anywhere():
    """loop_time follows the running loop and remembers its last reading outside one."""

    async def main() -> float:
        await asyncio.sleep(50)
        return loop_time()

    assert run_virtual(main(), start=7.0) == 57.0
    assert loop_time() == 57.0


def test_the_loop_closes_cleanly_after_using_threads():
    """Shutting the default executor down waits in real time, not by jumping past its own timeout."""
    loop = VirtualTimeLoop()
    loop.run_until_complete(asyncio.to_thread(int))
    loop.run_until_complete(loop.shutdown_default_executor())
    assert loop.time() == 1_000.0
    loop.close()
