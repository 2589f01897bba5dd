"""The part that is the same for every engine: how a worker answers a batch of rows."""

from collections.abc import Iterator, Sequence
from typing import Any

from claude_executor.sync import Executor

Row = dict[str, Any]


def answer(executor: Executor, rows: Sequence[Row]) -> list[Row]:
    """Return one outcome per row: its text or its error. A failed row does not stop the job."""
    outcomes = []
    for result in executor.map(request(row) for row in rows):
        text = "".join(b.text for b in result.message.content if b.type == "text") if result.message else None
        error = f"{type(result.error).__name__}: {result.error}" if result.error else None
        outcomes.append({"id": rows[result.index]["id"], "text": text, "error": error})
    return outcomes


def request(row: Row) -> Row:
    """Return the parameters of a row's request."""
    return {
        "model": "claude-haiku-5-5",
        "max_tokens": row["max_tokens"],
        "messages": [{"role": "user", "content": row["prompt"]}],
        "metadata": {"user_id": row["id"]},
    }


def batches(rows: Sequence[Row], size: int) -> Iterator[Sequence[Row]]:
    """Split the rows into batches of `size`."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def some_rows(count: int, wrong_every: int) -> list[Row]:
    """Create rows to try the recipes with. Every `wrong_every`-th row is one that the API rejects."""
    return [
        {"id": f"row-{n}", "prompt": f"What is {n} squared?", "max_tokens": 40 if n % wrong_every else 0}
        for n in range(count)
    ]
