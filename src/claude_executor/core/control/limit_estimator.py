"""What is believed about one limited resource of one pool.

The truth is what the server says, but it says it late, rounded and out of order, and it does not say
whether it looked when the request arrived or when the answer left. So what it says is compared with the
*range* of what we believed between those two moments:

* inside the range it is no news;
* below it, somebody else has spent: our level follows at once;
* above it, by more than all our open estimates could explain, somebody has stopped spending: our level
  follows by half the way, once a round trip.

A steady stream of such news is a rate, the draw of others, and is taken off our own refill.

What looks like others may have been ourselves: answers that turn out longer than estimated draw on the
server's bucket before they are here and say so. So what the level was lowered by is remembered for a while;
when answers prove to have taken more than their estimates, all in all, it is put down to them, instead of
being taken twice.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from claude_executor.core.control.bucket import NewBucket, TokenBucket
from claude_executor.core.model.cost import AMOUNT, VARIANCE, Resource
from claude_executor.core.model.headers import LimitQuote
from claude_executor.core.model.limits import LimitSource

ASSUMED_BURST = 60.0
"""Seconds of refill a bucket is taken to hold until something shows otherwise."""
ROUNDING = 500.0
"""The API rounds what remains of token limits to the nearest thousand."""
WHOLE = 1.0
"""What remains of the requests is a whole number: a request that is partly refilled is not shown."""
RAISE_SHARE = 0.5
FOREIGN_MEMORY = 3.0
"""Seconds over which the draw of others is averaged."""
FOREIGN_FADES = 30.0
"""Seconds in which what is believed of them fades to 1/e while there is no news of them."""
ASSUMED_FACTOR = 10.0
"""What is supposed to be the limit, as a multiple of what was let in, before anything is known of it."""
HEADERLESS_GROWTH = 60.0
"""Seconds in which our rate grows by the factor e where the API sends no headers, until it refuses."""
DISPUTED = 60.0
"""Seconds in which what the level was lowered by is forgotten to 1/e, as somebody else's for good."""
FOREIGN_MOST = 0.95
"""Never believe that others leave less than a twentieth: we would stop asking, and never learn otherwise."""


@dataclass(frozen=True, slots=True)
class LevelRange:
    """What was believed of the server's bucket between sending a request and reading its answer.

    Attributes:
        sent_at: When the request was sent.
        lowest: The lowest level believed in between.
        highest: The highest.
        unsure: How far all estimates in flight together are likely to be off.
        unsettled: Their sum: if all of them were for nothing, the level would be so much higher.
    """

    sent_at: float
    lowest: float
    highest: float
    unsure: float
    unsettled: float


class LimitEstimator:
    """What is believed about one resource of one pool.

    Attributes:
        resource: Which one.
        name: Its name.
        amount: Reads its amount off a cost.
        variance: Reads off how unsure that is.
        declared: The ceiling set by the user, per minute.
        announced: The limit the API announces, per minute.
        limit: The limit in force, per minute: the smaller of the two. Without either it is `None`; there is
            no bucket then, and the resource holds nobody up.
        rounding: How far the announced level may be from the true one; kept as a reserve in the bucket.
        foreign_rate: What others are believed to draw, per second.
        bucket: The level, at what the limit leaves for us.
    """

    __slots__ = (
        "_burst_by_group",
        "_burst_declared",
        "_burst_learned",
        "_capacity_seen",
        "_declared_by_group",
        "_disputed",
        "_excess",
        "_make",
        "_observed_at",
        "_ours",
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
        told: float | None,
        *,
        burst: float | None,
        now: float,
        make: NewBucket = TokenBucket,
    ) -> None:
        """`told` is per minute; `burst` is in seconds of refill; `make` makes the bucket."""
        self.resource = resource
        self.name = resource.value
        self.amount = AMOUNT[resource]
        self.variance = VARIANCE[resource]
        self.declared = told
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
        self._disputed = 0.0  # what the level was lowered by, and nobody has owned up to
        self._ours = 0.0  # what of it answers have proved to be ours
        self._excess = 0.0  # by how much these and others took more than estimated, all in all
        self._make = make
        self._declared_by_group: float | None = None
        self._reconfigure(now)

    @property
    def source(self) -> LimitSource:
        """Where the limit in force comes from."""
        if self.limit is None:
            return LimitSource.UNKNOWN
        by_user = self.limit in (self.declared, self._declared_by_group)
        return LimitSource.DECLARED if by_user else LimitSource.HEADERS

    @property
    def rate(self) -> float:
        """Amount a second that we may use in the long run; infinite where nothing is known."""
        return self.bucket.rate if self.bucket is not None else math.inf

    def set_declared(self, told: float | None, burst: float | None, now: float) -> None:
        """The user changes the ceiling."""
        self.declared = told
        self._declared_by_group = self._burst_by_group = None
        self._burst_declared = burst
        self._reconfigure(now)

    def assume(self, got: float, now: float) -> None:
        """Where no limit is known at all: begin with far more than the `got` a second that were let in."""
        if self.limit is None:
            self.announced = ASSUMED_FACTOR * got * 60.0
            self._reconfigure(now)

    def back_off_to(self, rate: float, sent_at: float, now: float) -> None:
        """There is no more than so much a second for us; once for a row of 429s.

        This is for an API that sends no headers. `sent_at` is when the refused request was sent.
        """
        if self.limit is None or sent_at < self._raised_at:
            return
        self._raised_at = now
        self.foreign_rate = min(
            FOREIGN_MOST * self.limit / 60.0, max(self.foreign_rate, self.limit / 60.0 - rate)
        )
        self._reconfigure(now)

    def probe_upward(self, since: float, now: float) -> None:
        """Nobody tells the limit, and for so many seconds nothing was refused: ask a little more."""
        if self.foreign_rate > 0.0:
            self.foreign_rate = max(0.0, self.foreign_rate - self.rate * since / HEADERLESS_GROWTH)
            self._reconfigure(now)

    def user_limits(self) -> dict[str, float]:
        """What its own user has said of it."""
        said = {"told": self.declared, "burst_told": self._burst_declared}
        return {name: value for name, value in said.items() if value is not None}

    def known_limits(self) -> dict[str, float]:
        """What others of a group are to know of it; what is not known is left out."""
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

    def adopt(self, terms: Mapping[str, float], now: float) -> None:
        """Take over what the group knows."""
        self._declared_by_group, self._burst_by_group = terms.get("told"), terms.get("burst_told")
        self.announced = terms.get("announced")
        self.foreign_rate = terms.get("others", 0.0)
        self._burst_learned = terms.get("burst", math.inf)
        self._capacity_seen = terms.get("seen", math.inf)
        if self._observed_at is None:
            self._observed_at = now
        self._reconfigure(now)

    def shorten_burst(self, burst: float, now: float) -> None:
        """The bucket turned out to hold no more than `burst` seconds of refill."""
        self._burst_learned = min(self._burst_learned, burst)
        self._reconfigure(now)

    def observe(self, quote: LimitQuote, belief: LevelRange, now: float) -> None:
        """Take in what the API says, as read at `now`."""
        first, known = self._observed_at is None, self.bucket is not None
        since = 0.0 if self._observed_at is None else now - self._observed_at
        self._observed_at = now
        self._settle_dispute(since)
        if quote.limit != self.announced:
            self.announced = quote.limit
            self._capacity_seen = math.inf
            self._reconfigure(now)
        self._learn_capacity(quote, now)
        bucket = self.bucket
        if bucket is None or self.limit is None:
            return
        if not known:  # nobody declared it, so it begins with what is left in it
            bucket.correct(quote.remaining, now)
            return
        lowest = min(belief.lowest, bucket.capacity)  # which may have shrunk just now
        highest = min(belief.highest, bucket.capacity)
        below, above = (0.0, WHOLE) if self.resource is Resource.REQUESTS else (ROUNDING, ROUNDING)
        # Where our own ceiling or bucket is the smaller one, the server's having more room means nothing.
        told = _least(self.declared, self._declared_by_group)
        ours_is_tighter = (told is not None and told < quote.limit) or quote.remaining > bucket.capacity
        error = quote.remaining + above + belief.unsure - lowest
        if error >= 0.0:
            surplus = quote.remaining - below - belief.unsure - belief.unsettled - highest
            if surplus <= 0.0 or ours_is_tighter or belief.sent_at < self._raised_at:
                self._fade_foreign_rate(since, now)
                return
            error = surplus * RAISE_SHARE
            self._raised_at = now  # and not again before an answer to what is sent from now on
        bucket.correct(bucket.level(now) + error, now)
        # An empty bucket may be in debt, which it does not show: then the lowering was not the whole of it.
        if self.resource is not Resource.REQUESTS and (quote.remaining > 0.0 or error > 0.0):
            self._disputed = max(0.0, self._disputed - error)
        if error < 0.0 and quote.full_in == 0.0:
            # The server's bucket is full and holds less than ours: it is smaller, nobody has drawn on it.
            self._capacity_seen = quote.remaining + above
            self._reconfigure(now)
        elif not first and since > 0.0 and not ours_is_tighter:
            self._learn_foreign_rate(error, since, now)

    def settle(self, surplus: float, now: float) -> None:
        """An answer took so much less than its estimate or, if negative, so much more."""
        if self.bucket is None:
            return
        if self._disputed or self._ours:
            before = max(0.0, self._excess)
            self._excess -= surplus
            ours = min(max(0.0, self._excess) - before, self._disputed)
            ours = max(ours, -self._ours)
            self._disputed -= ours
            self._ours += ours
            surplus += ours
            if ours and self.foreign_rate:
                self.foreign_rate = max(0.0, self.foreign_rate - ours / FOREIGN_MEMORY)
                self._reconfigure(now)
        self.bucket.settle(surplus, now)

    def _settle_dispute(self, since: float) -> None:
        """After a while nobody will own up to it any more."""
        if self._disputed or self._ours:
            keep = math.exp(-since / DISPUTED)
            self._excess *= keep
            self._ours *= keep
            self._disputed *= keep

    def _learn_foreign_rate(self, error: float, since: float, now: float) -> None:
        full_rate = (self.limit or 0.0) / 60.0
        beyond = max(-full_rate, min(full_rate, -error / since))  # what was drawn beyond what we expected
        weight = 1.0 - math.exp(-since / FOREIGN_MEMORY)
        self.foreign_rate = min(FOREIGN_MOST * full_rate, max(0.0, self.foreign_rate + weight * beyond))
        self._reconfigure(now)

    def _fade_foreign_rate(self, since: float, now: float) -> None:
        """No news: either they draw just what we expect, or there is nobody. Only news can keep telling."""
        if self.foreign_rate > 0.0 and since > 0.0:
            self.foreign_rate *= math.exp(-since / FOREIGN_FADES)
            self._reconfigure(now)

    def _learn_capacity(self, quote: LimitQuote, now: float) -> None:
        """A bucket that is `full_in` from being full holds what it has and what it will get until then."""
        if quote.full_in is None or self.announced is None:
            return
        rate = self.announced / 60.0
        rounding = WHOLE if self.resource is Resource.REQUESTS else ROUNDING
        most = quote.remaining + rounding + rate * (quote.full_in + 1.0)
        least = quote.remaining - rounding + rate * (quote.full_in - 1.0) if quote.remaining > 0 else 0.0
        if least > self._capacity_seen:
            self._capacity_seen = math.inf  # the bucket has been made larger
        if most < self._capacity_seen:
            self._capacity_seen = most
            self._reconfigure(now)

    def _reconfigure(self, now: float) -> None:
        self.limit = limit = _least(self.declared, self._declared_by_group, self.announced)
        if limit is None:
            self.bucket = None
            return
        full_rate = limit / 60.0
        rate = max(full_rate - self.foreign_rate, (1.0 - FOREIGN_MOST) * full_rate)
        burst = min(_least(self._burst_declared, self._burst_by_group) or ASSUMED_BURST, self._burst_learned)
        capacity = max(1.0, min(full_rate * burst, self._capacity_seen))
        if self.bucket is None:
            self.bucket = self._make(rate, capacity, now=now)
        else:
            self.bucket.reconfigure(rate, capacity, now)
        if self.announced is not None:
            self.rounding = WHOLE if self.resource is Resource.REQUESTS else min(ROUNDING, 0.05 * capacity)


def _least(*known: float | None) -> float | None:
    return min((value for value in known if value is not None), default=None)
