"""Several listeners in the place of one."""

import asyncio

import pytest

from claude_executor.core.model.events import Event
from claude_executor.observe import all_of

EVENT = Event(at=1.0)


class OneError(Exception):
    """What a listener may raise."""


def failing(event):
    raise OneError


def test_every_listener_hears_every_event():
    """In the order in which they were given; one that fails silences nobody."""
    heard = []
    listen = all_of(lambda event: heard.append((1, event)), failing, lambda event: heard.append((2, event)))
    with pytest.raises(OneError):
        listen(EVENT)
    assert heard == [(1, EVENT), (2, EVENT)]


def test_several_errors_come_together():
    """None of them is lost."""
    with pytest.raises(ExceptionGroup) as told:
        all_of(failing, failing)(EVENT)
    assert len(told.value.exceptions) == 2


async def test_the_executor_reports_what_a_listener_raises(simulator, executor_on, prompt):
    """As that of a single listener: to the event loop's exception handler; the request is answered."""
    reported, heard = [], []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
    async with executor_on(simulator, on_event=all_of(failing, heard.append)) as executor:
        assert await executor.submit(prompt())
    assert len(reported) == len(heard) >= 2
    assert {context["message"] for context in reported} == {"on_event raised an exception"}
    assert all(isinstance(context["exception"], OneError) for context in reported)
