"""What a worker of any engine does with a batch of rows."""

from collections.abc import Iterator, Sequence
from typing import Any

from claude_executor.sync import Executor

Row = dict[str, Any]


def answer(executor: Executor, rows: Sequence[Row]) -> list[Row]:
    """An outcome for every row: its text, or what was wrong with it. None of them ends the job."""
    outcomes = []
    for result in executor.map(request(row) for row in rows):
        text = "".join(b.text for b in result.message.content if b.type == "text") if result.message else None
        error = f"{type(result.error).__name__}: {result.error}" if result.error else None
        outcomes.append({"id": rows[result.index]["id"], "text": text, "error": error})
    return outcomes


def request(row: Row) -> Row:
    """What is asked about a row."""
    return {
        "model": "claude-haiku-5-5",
        "max_tokens": row["max_tokens"],
        "messages": [{"role": "user", "content": row["prompt"]}],
        "metadata": {"user_id": row["id"]},
    }


def batches(rows: Sequence[Row], size: int) -> Iterator[Sequence[Row]]:
    """So many at a time."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def some_rows(count: int, wrong_every: int) -> list[Row]:
    """Rows to try it with; every so many of them is one that the API refuses."""
    return [
        {"id": f"row-{n}", "prompt": f"What is {n} squared?", "max_tokens": 40 if n % wrong_every else 0}
        for n in range(count)
    ]
