"""lm-deluge: `process_prompts_async`, with ten attempts.

It has one bucket for tokens, which is told input and output in one sum. What it is not told of is set out of
reach, unless it is told nothing at all: then it keeps its own 1,000 requests and 500,000 tokens a minute.
"""

import os

from lm_deluge import LLMClient, SamplingParams
from lm_deluge.models import register_model

from benchmarks.lab.contestants.entry import Outcomes, Task, enter

OUT_OF_REACH = 1_000_000_000


async def run(task: Task) -> Outcomes:
    """Send all prompts; per prompt `None` or what went wrong."""
    os.environ["LAB_KEY"] = "k"
    register_model(
        id="lab",
        name=task.model,
        api_base=f"{task.base_url}/v1",
        api_key_env_var="LAB_KEY",
        api_spec="anthropic",
    )
    limits = {}
    if task.told:
        limits["max_requests_per_minute"] = int(task.told.get("rpm", OUT_OF_REACH))
        limits["max_tokens_per_minute"] = int(task.tokens_told or OUT_OF_REACH)
    client = LLMClient(
        "lab",
        max_concurrent_requests=task.concurrency,
        max_attempts=10,
        request_timeout=600,
        sampling_params=[SamplingParams(max_new_tokens=task.max_tokens)],
        **limits,
    )
    responses = await client.process_prompts_async(task.texts, show_progress=False)
    return [str(answer.error_message)[:200] if answer.is_error else None for answer in responses]


if __name__ == "__main__":
    enter(run)
