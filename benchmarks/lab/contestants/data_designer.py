"""NeMo data-designer: a seed table of prompts and one column of answers.

It takes no limits at all: it lowers the number of requests in flight when it is refused and raises it again
when it is not. So nothing of what it might be told is passed on, only the most it may have in flight. What
it does besides asking (checks, a table on disk, a profile of it) is a few seconds a run, and counted.
"""

import tempfile
from pathlib import Path

import data_designer.config as dd
import pandas as pd
from data_designer.interface import DataDesigner

from benchmarks.lab.contestants.entry import Outcomes, Task, enter_blocking


def run(task: Task) -> Outcomes:
    """Send all prompts; per prompt `None` or what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        return _run(task, Path(folder))


def _run(task: Task, folder: Path) -> Outcomes:
    designer = DataDesigner(
        artifact_path=folder,
        model_providers=[
            dd.ModelProvider(
                name="lab", endpoint=f"{task.base_url}/v1", provider_type="anthropic", api_key="k"
            )
        ],
    )
    designer.set_run_config(dd.RunConfig(otel_metrics_port=None))
    model = dd.ModelConfig(
        alias="model",
        model=task.model,
        provider="lab",
        skip_health_check=True,
        inference_parameters=dd.ChatCompletionInferenceParams(
            max_parallel_requests=task.concurrency, timeout=600, max_tokens=task.max_tokens
        ),
    )
    columns = dd.DataDesignerConfigBuilder(model_configs=[model])
    rows = pd.DataFrame({"row": range(len(task.prompts)), "prompt": task.texts})
    columns.with_seed_dataset(dd.DataFrameSeedSource(df=rows), sampling_strategy=dd.SamplingStrategy.ORDERED)
    columns.add_column(dd.LLMTextColumnConfig(name="answer", prompt="{{ prompt }}", model_alias="model"))
    outcomes: Outcomes = ["row dropped"] * len(task.prompts)
    try:
        answers = designer.create(columns, num_records=len(task.prompts)).load_dataset()
    except Exception as error:  # it may have stopped early, and says so
        return [repr(error)[:200]] * len(task.prompts)
    for row, answer in zip(answers["row"], answers["answer"], strict=True):
        outcomes[int(row)] = None if answer else "empty answer"
    return outcomes


if __name__ == "__main__":
    enter_blocking(run)
