"""Checks of the target of a bulk job, before anything is opened."""

from pathlib import Path

from claude_executor.bulk.run.timeline import timeline_of

_NOT_JSON_LINES = frozenset({".gz", ".csv", ".tsv", ".parquet", ".zip", ".zst", ".xlsx"})
_BESIDE = (".lock", ".staged", ".new")
"""Endings of the files that a job makes beside its results."""


class BadTarget(ValueError):
    """Results cannot go to this target. Nothing was opened.

    Attributes:
        is_missing: Whether the reason is that failures were to be retried and there are no results yet.
    """

    def __init__(self, message: str, *, is_missing: bool = False) -> None:
        super().__init__(message)
        self.is_missing = is_missing


class ResultsNotWritable(OSError):
    """The results file cannot be opened for writing. Nothing was sent; the cause says more."""


def validate_target(source: Path, target: Path, *, failures_only: bool) -> None:
    """Require that the results of a job can go to a file.

    Args:
        source: The input of the job.
        target: The results file.
        failures_only: Whether the job needs results that are there already.

    Raises:
        BadTarget: The results cannot go there.
    """
    try:
        exists = target.exists()
        if exists and _is_same(source, target):
            raise BadTarget(f"{target} is the input")
        beside = (timeline_of(target), *(target.with_name(target.name + end) for end in _BESIDE))
        if any(_is_same(source, file) for file in beside):
            raise BadTarget(f"the input {source} has the name of a file that belongs to {target}")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise BadTarget(f"cannot write {target}: {reason[0].lower()}{reason[1:]}") from error
    if target.suffix.lower() in _NOT_JSON_LINES:
        raise BadTarget(f"results are plain JSON lines, so {target} should be named .jsonl")
    if target.is_dir():
        raise BadTarget(f"{target} is a directory")
    if not target.parent.is_dir():
        raise BadTarget(f"there is no directory {target.parent}")
    if failures_only and not exists:
        raise BadTarget(f"{target} does not exist, so there are no failed rows to retry", is_missing=True)


def _is_same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)
