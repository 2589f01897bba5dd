"""Estimates one limited resource of one pool: its limit, the level of its bucket, and the foreign rate.

The server knows the truth, but it reports late, rounded and out of order, and does not say whether it read
the level when the request arrived or when the answer left. So each quote is compared with the *range* of
levels believed between those two moments:

* inside the range, the quote confirms the belief, and the believed foreign rate fades;
* below it, other users of the organization have spent: the level follows at once;
* above it, by more than all open estimates could explain, they have stopped spending: the level follows half
  the way, once a round trip.

Repeated quotes outside the range add up to a rate. This *foreign rate* is subtracted from the refill of our
own bucket. A lowering that answers explain later is not foreign, see `disputed_draw`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from claude_executor.core.control.bucket import NewBucket, TokenBucket
from claude_executor.core.control.disputed_draw import DisputedDraw
from claude_executor.core.model.cost import AMOUNT, VARIANCE, Resource
from claude_executor.core.model.headers import LimitQuote
from claude_executor.core.model.limits import LimitSource

ASSUMED_BURST = 60.0
"""Seconds of refill that a bucket is assumed to hold until a header or a refusal shows otherwise."""
ROUNDING = 500.0
"""Largest rounding error of a token level, in tokens: the API rounds to the nearest thousand."""
REQUEST_ROUNDING = 1.0
"""Largest rounding error of a request level: the API does not show a partly refilled request."""
RAISE_SHARE = 0.5
"""Fraction of an unexplained surplus by which the level is raised."""
FOREIGN_MEMORY = 3.0
"""Seconds over which the foreign rate is averaged."""
FOREIGN_FADES = 30.0
"""Seconds in which the foreign rate fades to 1/e while quotes confirm the belief."""
ASSUMED_FACTOR = 10.0
"""First guess at an unknown limit, as a multiple of the rate that was admitted."""
HEADERLESS_GROWTH = 60.0
"""Seconds in which our rate grows by the factor e at an API without headers, until it refuses a request."""
MAX_FOREIGN_SHARE = 0.95
"""Largest foreign rate, as a fraction of the limit: at 1 we would stop sending and never learn otherwise."""


@dataclass(frozen=True, slots=True)
class LevelRange:
    """Range of the server's level as believed between sending a request and reading its answer.

    Attributes:
        sent_at: The instant at which the request was sent.
        lowest: The lowest level believed in between.
        highest: The highest level believed in between.
        unsure: Likely error of all estimates in flight together, as an amount of the resource.
        unsettled: Sum of all estimates in flight. If they all turned out to be zero, the level would be this
            much higher.
    """

    sent_at: float
    lowest: float
    highest: float
    unsure: float
    unsettled: float


class LimitEstimator:
    """Estimate of one limited resource of one pool.

    Attributes:
        resource: The limited resource.
        name: The name of the resource.
        amount: Function that reads the amount of the resource off a cost.
        variance: Function that reads the variance of that amount off a cost.
        declared: The ceiling set by the user, per minute; None if there is none.
        announced: The limit the API announces, per minute; None until it does.
        limit: The limit in force, per minute: the smallest one known; None (and no bucket) without one.
        rounding: Largest rounding error of the announced level; kept as a reserve in the bucket.
        foreign_rate: The amount per second that other users of the organization are believed to draw.
        bucket: The believed level, refilled at the rate the limit leaves to us.
    """

    __slots__ = (
        "_burst_by_group",
        "_burst_declared",
        "_burst_learned",
        "_capacity_seen",
        "_declared_by_group",
        "_disputed",
        "_new_bucket",
        "_observed_at",
        "_raised_at",
        "amount",
        "announced",
        "bucket",
        "declared",
        "foreign_rate",
        "limit",
        "name",
        "resource",
        "rounding",
        "variance",
    )

    def __init__(
        self,
        resource: Resource,
        declared: float | None,
        *,
        burst: float | None,
        now: float,
        new_bucket: NewBucket = TokenBucket,
    ) -> None:
        """Start from the user's ceiling (`declared`, per minute) and bucket size (`burst`, in seconds)."""
        self.resource = resource
        self.name = resource.value
        self.amount = AMOUNT[resource]
        self.variance = VARIANCE[resource]
        self.declared = declared
        self.announced: float | None = None
        self.limit: float | None = None
        self.rounding = 0.0
        self.foreign_rate = 0.0
        self.bucket: TokenBucket | None = None
        self._burst_declared = burst
        self._burst_by_group: float | None = None
        self._burst_learned = math.inf
        self._capacity_seen = math.inf
        self._observed_at: float | None = None
        self._raised_at = -math.inf
        self._disputed = DisputedDraw()
        self._new_bucket = new_bucket
        self._declared_by_group: float | None = None
        self._reconfigure(now)

    @property
    def source(self) -> LimitSource:
        """Source of the limit in force."""
        if self.limit is None:
            return LimitSource.UNKNOWN
        by_user = self.limit in (self.declared, self._declared_by_group)
        return LimitSource.DECLARED if by_user else LimitSource.HEADERS

    @property
    def rate(self) -> float:
        """Amount per second that we may use in the long run; infinite while no limit is known."""
        return self.bucket.rate if self.bucket is not None else math.inf

    def set_declared(self, declared: float | None, burst: float | None, now: float) -> None:
        """Replace the user's ceiling (per minute) and bucket size (seconds of refill)."""
        self.declared = declared
        self._declared_by_group = self._burst_by_group = None
        self._burst_declared = burst
        self._reconfigure(now)

    def assume(self, admitted_rate: float, now: float) -> None:
        """Start from a multiple of the rate (per second) that was admitted, if no limit is known at all."""
        if self.limit is None:
            self.announced = ASSUMED_FACTOR * admitted_rate * 60.0
            self._reconfigure(now)

    def back_off_to(self, rate: float, sent_at: float, now: float) -> None:
        """Lower our rate to `rate` per second after a refusal by an API that sends no headers.

        A refusal of a request that was sent (`sent_at`) before the last change of the level counts no more.
        """
        if self.limit is None or sent_at < self._raised_at:
            return
        self._raised_at = now
        self.foreign_rate = min(
            MAX_FOREIGN_SHARE * self.limit / 60.0, max(self.foreign_rate, self.limit / 60.0 - rate)
        )
        self._reconfigure(now)

    def probe_upward(self, elapsed: float, now: float) -> None:
        """Raise our rate after `elapsed` seconds without a refusal by an API that sends no headers."""
        if self.foreign_rate > 0.0:
            self.foreign_rate = max(0.0, self.foreign_rate - self.rate * elapsed / HEADERLESS_GROWTH)
            self._reconfigure(now)

    def user_limits(self) -> dict[str, float]:
        """Return what this member's own user declared, by the names of the group's protocol."""
        declared = {"told": self.declared, "burst_told": self._burst_declared}
        return {name: value for name, value in declared.items() if value is not None}

    def known_limits(self) -> dict[str, float]:
        """Return what the other members of a group should know, by the names of the group's protocol."""
        if self.bucket is None:
            return {}
        known = {
            "rate": self.bucket.rate,
            "cap": self.bucket.capacity,
            "rounding": self.rounding,
            "told": _least(self.declared, self._declared_by_group),
            "burst_told": _least(self._burst_declared, self._burst_by_group),
            "announced": self.announced,
            "others": self.foreign_rate,
            "burst": self._burst_learned,
            "seen": self._capacity_seen,
        }
        return {name: value for name, value in known.items() if value is not None and math.isfinite(value)}

    def adopt(self, limits: Mapping[str, float], now: float) -> None:
        """Replace what was learned here by the group's knowledge, in the form that `known_limits` returns."""
        self._declared_by_group, self._burst_by_group = limits.get("told"), limits.get("burst_told")
        self.announced = limits.get("announced")
        self.foreign_rate = limits.get("others", 0.0)
        self._burst_learned = limits.get("burst", math.inf)
        self._capacity_seen = limits.get("seen", math.inf)
        if self._observed_at is None:
            self._observed_at = now
        self._reconfigure(now)

    def shorten_burst(self, burst: float, now: float) -> None:
        """Assume that the server's bucket holds no more than `burst` seconds of refill."""
        self._burst_learned = min(self._burst_learned, burst)
        self._reconfigure(now)

    def observe(self, quote: LimitQuote, belief: LevelRange, now: float) -> None:
        """Learn from a quote of the API.

        Args:
            quote: The limit and level that the API quoted.
            belief: The range of levels that was believed while the quoted request was out.
            now: The instant at which the quote was read.
        """
        limit_was_known = self.bucket is not None
        elapsed = 0.0 if self._observed_at is None else now - self._observed_at
        self._observed_at = now
        self._disputed.fade(elapsed)
        if quote.limit != self.announced:
            self.announced = quote.limit
            self._capacity_seen = math.inf
            self._reconfigure(now)
        self._learn_capacity(quote, now)
        bucket = self.bucket
        if bucket is None or self.limit is None:
            return
        if not limit_was_known:  # this quote made the bucket, so there is no belief to compare it with
            bucket.correct(quote.remaining, now)
            return
        lowest = min(belief.lowest, bucket.capacity)  # the capacity may have shrunk just now
        highest = min(belief.highest, bucket.capacity)
        declared = _least(self.declared, self._declared_by_group)
        # Where our own ceiling or bucket is the smaller one, more room at the server means nothing.
        ours_is_tighter = (declared is not None and declared < quote.limit) or (
            quote.remaining > bucket.capacity
        )
        at_least, at_most = self._quoted_range(quote)
        missing = at_most + belief.unsure - lowest
        surplus = at_least - belief.unsure - belief.unsettled - highest
        if missing < 0.0:
            self._observe_below(bucket, quote, missing, 0.0 if ours_is_tighter else elapsed, now)
        elif surplus > 0.0 and not ours_is_tighter and belief.sent_at >= self._raised_at:
            self._observe_above(bucket, surplus, elapsed, now)
        else:
            self._observe_inside(elapsed, now)

    def _observe_inside(self, elapsed: float, now: float) -> None:
        """Let the foreign rate fade: only quotes outside the range confirm it."""
        if self.foreign_rate > 0.0 and elapsed > 0.0:
            self.foreign_rate *= math.exp(-elapsed / FOREIGN_FADES)
            self._reconfigure(now)

    def _observe_below(
        self, bucket: TokenBucket, quote: LimitQuote, missing: float, elapsed: float, now: float
    ) -> None:
        """Lower the level at once by `missing` (a negative amount), and learn why it was lower."""
        bucket.correct(bucket.level(now) + missing, now)
        # An empty bucket may be in debt, which it does not show. So the lowering may not be the whole of it,
        # and cannot be weighed against what answers took.
        if self.resource is not Resource.REQUESTS and quote.remaining > 0.0:
            self._disputed.on_shift(missing)
        if quote.full_in == 0.0:
            # The server's bucket is full and holds less than ours: it is smaller, and no one has drawn on it.
            self._capacity_seen = self._quoted_range(quote)[1]
            self._reconfigure(now)
        else:
            self._learn_foreign_rate(missing, elapsed, now)

    def _observe_above(self, bucket: TokenBucket, surplus: float, elapsed: float, now: float) -> None:
        """Raise the level by a share of the surplus: other users draw less than believed."""
        raised = surplus * RAISE_SHARE
        self._raised_at = now  # and not again before an answer to a request sent from now on
        bucket.correct(bucket.level(now) + raised, now)
        if self.resource is not Resource.REQUESTS:
            self._disputed.on_shift(raised)
        self._learn_foreign_rate(raised, elapsed, now)

    def _quoted_range(self, quote: LimitQuote) -> tuple[float, float]:
        """Return the lowest and the highest level that the API would quote as this one."""
        if self.resource is Resource.REQUESTS:
            return quote.remaining, quote.remaining + REQUEST_ROUNDING
        return quote.remaining - ROUNDING, quote.remaining + ROUNDING

    def settle(self, surplus: float, now: float) -> None:
        """Settle an answer that took `surplus` less than its estimate or, if negative, more."""
        if self.bucket is None:
            return
        ours = self._disputed.attribute(surplus)
        if ours and self.foreign_rate:
            self.foreign_rate = max(0.0, self.foreign_rate - ours / FOREIGN_MEMORY)
            self._reconfigure(now)
        self.bucket.settle(surplus + ours, now)

    def _learn_foreign_rate(self, error: float, elapsed: float, now: float) -> None:
        """Learn from a level that was off by `error` after `elapsed` seconds; 0 seconds teach nothing."""
        if elapsed <= 0.0:
            return
        full_rate = (self.limit or 0.0) / 60.0
        beyond = max(-full_rate, min(full_rate, -error / elapsed))  # drawn beyond what was expected
        weight = 1.0 - math.exp(-elapsed / FOREIGN_MEMORY)
        self.foreign_rate = min(MAX_FOREIGN_SHARE * full_rate, max(0.0, self.foreign_rate + weight * beyond))
        self._reconfigure(now)

    def _learn_capacity(self, quote: LimitQuote, now: float) -> None:
        """Learn the server's capacity: what remains, plus the refill until it is full."""
        if quote.full_in is None or self.announced is None:
            return
        rate = self.announced / 60.0
        rounding = REQUEST_ROUNDING if self.resource is Resource.REQUESTS else ROUNDING
        most = quote.remaining + rounding + rate * (quote.full_in + 1.0)
        least = quote.remaining - rounding + rate * (quote.full_in - 1.0) if quote.remaining > 0 else 0.0
        if least > self._capacity_seen:
            self._capacity_seen = math.inf  # the server's bucket has been enlarged
        if most < self._capacity_seen:
            self._capacity_seen = most
            self._reconfigure(now)

    def _reconfigure(self, now: float) -> None:
        """Work out limit, bucket and rounding from everything that is known."""
        self.limit = limit = _least(self.declared, self._declared_by_group, self.announced)
        if limit is None:
            self.bucket = None
            return
        full_rate = limit / 60.0
        rate = max(full_rate - self.foreign_rate, (1.0 - MAX_FOREIGN_SHARE) * full_rate)
        burst = min(_least(self._burst_declared, self._burst_by_group) or ASSUMED_BURST, self._burst_learned)
        capacity = max(1.0, min(full_rate * burst, self._capacity_seen))
        if self.bucket is None:
            self.bucket = self._new_bucket(rate, capacity, now=now)
        else:
            self.bucket.reconfigure(rate, capacity, now)
        if self.announced is not None:
            self.rounding = (
                REQUEST_ROUNDING if self.resource is Resource.REQUESTS else min(ROUNDING, 0.05 * capacity)
            )


def _least(*known: float | None) -> float | None:
    return min((value for value in known if value is not None), default=None)
