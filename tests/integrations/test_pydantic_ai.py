"""Pydantic AI's Anthropic model under the executor's middleware."""

import asyncio

import pytest

from claude_executor.simulator import Faults, Latency, Lengths, Rates, Settings

pydantic_ai = pytest.importorskip(
    "pydantic_ai", reason="needs the optional group: pip install -e '.[integrations]'"
)

MODEL = "claude-haiku-5-5"
BUSY = Settings(
    rates=Rates(rpm=300, itpm=2_000_000, otpm=400_000),
    latency=Latency(0.5, 100.0, 0.1),
    output_tokens=Lengths(40, 0.3),
)


def agent_of(client):
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    return pydantic_ai.Agent(AnthropicModel(MODEL, provider=AnthropicProvider(anthropic_client=client)))


@pytest.mark.simulator(BUSY, faults=Faults(overloaded=0.1))
async def test_pydantic_ai_is_paced_and_retried(simulator, pair):
    """More at once than the limit lets through, with overload: all are answered, and none meets a 429."""
    executor, client = pair
    agent = agent_of(client)
    async with executor:
        results = await asyncio.gather(*(agent.run(f"Question {n}") for n in range(350)))
        assert executor.snapshot().running == 0
        assert executor.snapshot().answered == 350
    assert all(result.output and result.usage.output_tokens for result in results)
    assert simulator.stats()["by_status"].get("429", 0) <= 4
    assert simulator.stats()["by_status"]["529"] > 0


@pytest.mark.simulator(BUSY)
async def test_pydantic_ai_streams(simulator, pair):
    """Text comes in pieces, and the place in flight is free after it."""
    executor, client = pair
    async with executor:
        async with agent_of(client).run_stream("Hello") as result:
            pieces = [piece async for piece in result.stream_text(delta=True, debounce_by=None)]
        assert executor.snapshot().running == 0
        assert executor.snapshot().answered == 1
    assert len(pieces) > 1


@pytest.mark.simulator(BUSY, faults=Faults(error_500=1.0))
async def test_pydantic_ai_sees_the_sdks_errors(simulator, pair):
    """It makes its own of them; after as many attempts as our policy makes."""
    executor, client = pair
    async with executor:
        with pytest.raises(pydantic_ai.ModelHTTPError) as told:
            await agent_of(client).run("Hello")
        assert told.value.status_code == 500
        assert executor.snapshot().attempts == simulator.stats()["requests"]
        assert executor.snapshot().failed == 1
