"""LangChain's `ChatAnthropic` under the executor's middleware."""

import asyncio

import anthropic
import pytest

from claude_executor.simulator import Faults, Latency, Lengths, Rates, Settings
from claude_executor.sync import Executor

langchain = pytest.importorskip(
    "langchain_anthropic", reason="needs the optional group: pip install -e '.[integrations]'"
)

MODEL = "claude-haiku-5-5"
BUSY = Settings(
    rates=Rates(rpm=300, itpm=2_000_000, otpm=400_000),
    latency=Latency(0.5, 100.0, 0.1),
    output_tokens=Lengths(40, 0.3),
)


def chat(**options):
    return langchain.ChatAnthropic(model=MODEL, max_tokens=256, api_key="k", **options)


@pytest.mark.simulator(BUSY, faults=Faults(overloaded=0.1))
async def test_langchain_is_paced_and_retried(simulator, pair):
    """More at once than the limit lets through, with overload: all are answered, and none meets a 429."""
    executor, client = pair
    model = chat()
    model._async_client = client
    async with executor:
        answers = await asyncio.gather(*(model.ainvoke(f"Question {n}") for n in range(350)))
        assert executor.snapshot().running == 0
        assert executor.snapshot().answered == 350
    assert all(answer.content and answer.usage_metadata["output_tokens"] for answer in answers)
    assert simulator.stats()["by_status"].get("429", 0) <= 4
    assert simulator.stats()["by_status"]["529"] > 0


@pytest.mark.simulator(BUSY)
async def test_langchain_streams(simulator, pair):
    """Chunks come, and the place in flight is free after them."""
    executor, client = pair
    model = chat(streaming=True)
    model._async_client = client
    async with executor:
        chunks = [chunk async for chunk in model.astream("Hello")]
        assert executor.snapshot().running == 0
        assert executor.snapshot().answered == 1
    assert len(chunks) > 1


@pytest.mark.simulator(BUSY, faults=Faults(error_500=1.0))
async def test_langchain_sees_the_sdks_errors(simulator, pair):
    """After as many attempts as our policy makes."""
    executor, client = pair
    model = chat()
    model._async_client = client
    async with executor:
        with pytest.raises(anthropic.InternalServerError):
            await model.ainvoke("Hello")
        assert executor.snapshot().attempts == simulator.stats()["requests"]
        assert executor.snapshot().failed == 1


@pytest.mark.simulator(Settings(output_tokens=Lengths(20)), faults=Faults(overloaded=0.2))
def test_langchain_without_async(simulator_server):
    """Its synchronous side, whose `batch` uses threads."""
    with (
        Executor(api_key="k", base_url=simulator_server.base_url) as executor,
        anthropic.Anthropic(
            api_key="k", base_url=simulator_server.base_url, middleware=[executor.middleware()]
        ) as client,
    ):
        model = chat()
        model._client = client
        answers = model.batch([f"Question {n}" for n in range(20)])
        streamed = list(model.stream("Hello"))
        assert executor.snapshot().answered == 21
    assert all(answer.content for answer in answers)
    assert streamed
