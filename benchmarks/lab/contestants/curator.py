"""bespokelabs-curator: an `LLM` over a list of rows, with its own ten retries.

What it is not told of is set out of reach, unless it is told nothing at all: then it goes by the headers of
the request that it makes before the others. That request names a model which the API no longer has, and so
ends every run before it begins; here it names the model of the task.
"""

import os
import tempfile
from collections.abc import Mapping
from typing import Any

from anthropic import Anthropic
from bespokelabs import curator
from bespokelabs.curator.request_processor.online.anthropic_online_request_processor import (
    AnthropicOnlineRequestProcessor,
)

from benchmarks.lab.contestants.entry import Outcomes, Task, enter_blocking

OUT_OF_REACH = 1_000_000_000


class Asker(curator.LLM):  # type: ignore[misc]
    """Sends what is in the row, keeps the row's number with the answer."""

    def prompt(self, row: dict[str, Any]) -> str:
        """What to send."""
        return str(row["prompt"])

    def parse(self, row: dict[str, Any], response: str) -> dict[str, Any]:
        """What to keep."""
        return {"row": row["row"], "answer": response}


def first_headers(task: Task) -> Mapping[str, str]:
    """What the headers of a first, small request say of the limits."""
    create = Anthropic(base_url=task.base_url).messages.with_raw_response.create
    hello = {"role": "user", "content": "Hello, Claude"}
    return create(model=task.model, max_tokens=task.max_tokens, messages=[hello]).headers


def run(task: Task) -> Outcomes:
    """Send all prompts; per prompt `None` or what went wrong."""
    os.environ["ANTHROPIC_API_KEY"] = "k"
    AnthropicOnlineRequestProcessor.test_call = lambda _: first_headers(task)
    backend: dict[str, Any] = {
        "base_url": f"{task.base_url}/v1",
        "max_retries": 10,
        "max_concurrent_requests": task.concurrency,
        "require_all_responses": False,
        "invalid_finish_reasons": ["content_filter"],  # an answer of full length is an answer
    }
    if task.told:
        backend["max_requests_per_minute"] = int(task.told.get("rpm", OUT_OF_REACH))
        backend["max_input_tokens_per_minute"] = int(task.told.get("itpm", OUT_OF_REACH))
        backend["max_output_tokens_per_minute"] = int(task.told.get("otpm", OUT_OF_REACH))
    asker = Asker(
        model_name=task.model,
        backend="anthropic",
        generation_params={"max_tokens": task.max_tokens},
        backend_params=backend,
    )
    rows = [{"row": number, "prompt": text} for number, text in enumerate(task.texts)]
    with tempfile.TemporaryDirectory() as folder:
        answers = asker(rows, working_dir=folder).dataset.to_list()
    outcomes: Outcomes = ["no answer"] * len(rows)
    for answer in answers:
        outcomes[answer["row"]] = None if answer["answer"] else "empty answer"
    return outcomes


if __name__ == "__main__":
    enter_blocking(run)
