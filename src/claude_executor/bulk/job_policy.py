"""Policy of a bulk job: defaults, caps, resumption and order."""

from dataclasses import dataclass

from claude_executor.bulk.costs.caps import NO_CAPS, Caps
from claude_executor.bulk.input.rows import NO_DEFAULTS, RowDefaults
from claude_executor.bulk.run.resume import OnChanged


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPolicy:
    """Policy of a bulk job: defaults, caps, resumption and order.

    Attributes:
        defaults: What rows may leave out.
        caps: Caps on the money, tokens and time of the whole job.
        on_changed: What to do with answered rows whose request has changed: ``"fail"``, ``"redo"`` (pay
            again) or ``"keep"`` the answers.
        failures_only: Send the rows that failed, permanent failures included, and no others.
        overwrite: Start over. The old results stay until the first new answer is on disk.
        ordered: Sort the results in the order of the rows at the end.
        dedupe: Send rows with equal requests once, and copy the answer.
        priority: Priority of the requests; see `Executor.submit`.
        timeline: Keep a timeline beside the results, which the report draws.
    """

    defaults: RowDefaults = NO_DEFAULTS
    caps: Caps = NO_CAPS
    on_changed: OnChanged = "fail"
    failures_only: bool = False
    overwrite: bool = False
    ordered: bool = False
    dedupe: bool = False
    priority: int = 0
    timeline: bool = True
