"""What a bulk job is to do: both files are read and the caps looked at, and nothing is changed by that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from claude_executor.bulk import (
    CapDemand,
    Prices,
    RemainingRows,
    ResultsReader,
    Resumption,
    Spent,
    Survey,
    Timeline,
    spent_on,
    timeline_of,
    validate,
)
from claude_executor.cli.options.job import STANDARD

if TYPE_CHECKING:
    from claude_executor import Params, SpendingCap
    from claude_executor.bulk import ResultsFile, Source
    from claude_executor.cli.options.job import JobOptions


@dataclass(slots=True)
class PreparedJob:
    """What is known before anything is sent.

    Attributes:
        bulk: What is to be done.
        source: The rows.
        survey: What there is.
        rest: What of it is to be done.
        asked: What bounds its cost.
        before: What earlier starts have spent.
        at_cap: Whether that is all there is to spend, so that nothing can be sent.
        caps: What is left, for the executor to keep to.
        before_this: What earlier starts have written, if there is something.
        results: Where the results go; `None` for standard output.
        resumption: What makes room there for what is sent anew.
        timeline: What the report will want to know, if it is kept.
    """

    bulk: JobOptions
    source: Source
    survey: Survey
    rest: RemainingRows
    asked: CapDemand
    before: Spent = field(default_factory=Spent)
    at_cap: bool = field(init=False, default=False)
    caps: tuple[SpendingCap, ...] = field(init=False, default=())
    before_this: ResultsReader | None = None
    results: ResultsFile | None = None
    resumption: Resumption | None = None
    timeline: Timeline | None = None

    def __post_init__(self) -> None:
        """See what the caps leave.

        Raises:
            Unpriced: There is one on money, and a price is not known.
        """
        if self.rest.to_do:
            caps = self.bulk.caps
            self.at_cap = caps.used_up(self.before)
            if not self.at_cap:
                self.caps = caps.left(self.before, self.asked, Prices())


def to_standard_output(bulk: JobOptions, source: Source) -> PreparedJob:
    """All rows, from nothing.

    Raises:
        BadInput: Something is wrong with them.
        Unpriced: The budget cannot be kept.
    """
    asked = CapDemand()
    survey = validate(source, bulk.defaults, see=asked.see)
    everything = RemainingRows(rows=survey.rows, sends=bytearray(b"\1") * survey.rows)
    return PreparedJob(bulk, source, survey, everything, asked)


def to_file(bulk: JobOptions, source: Source, results: ResultsFile) -> PreparedJob:
    """What the results leave to be done.

    Raises:
        BadInput: Something is wrong with the rows.
        Changed: There are changed rows, and it is to fail on them.
        Unpriced: The budget cannot be kept.
    """
    job = _what_is_left(bulk, source, results)
    job.results = results
    if bulk.target.is_file():
        begun = (lambda: results.begun) if results.end == 0 else None
        job.timeline = Timeline(timeline_of(bulk.target), begun=begun)
    return job


def looked_at(bulk: JobOptions, source: Source) -> PreparedJob:
    """What there would be to do now, for who only looks: nothing is locked, repaired or begun.

    Raises:
        As `to_file`; but whoever writes the results meanwhile is not in the way.
    """
    if bulk.target == STANDARD or bulk.overwrite:
        return to_standard_output(bulk, source)
    return _what_is_left(bulk, source, ResultsReader.open_readonly(bulk.target))


def _what_is_left(bulk: JobOptions, source: Source, results: ResultsReader) -> PreparedJob:
    asked = CapDemand()
    resumption = Resumption(results, failures_only=bulk.failures_only, on_changed=bulk.on_changed)

    def see(custom_id: str, params: Params) -> None:
        if resumption.see(custom_id, params):
            asked.see(custom_id, params)

    capped = bulk.caps.spending
    survey = validate(source, bulk.defaults, see=see if capped else resumption.see, known=resumption.known)
    rest = resumption.planned()
    before = Spent()
    if capped and rest.to_do:  # with the answers that are thrown away later: they were paid for
        in_dollars = bulk.caps.dollars is not None
        before = spent_on(results, Prices(), in_dollars=in_dollars)
    return PreparedJob(bulk, source, survey, rest, asked, before, before_this=results, resumption=resumption)
