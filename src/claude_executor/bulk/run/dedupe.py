"""Rows that ask the same: the first of them is sent, and its answer is the answer of all.

While the first is under way the others wait for it. Those that come later are given its answer out of the
results, where it is known by its place; only until it is on disk is it kept.
"""

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from claude_executor.bulk.input.rows import Row
from claude_executor.bulk.results.hash_index import HashIndex
from claude_executor.bulk.results.writer import ResultsFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anthropic.types import Message

MOST_WAITING = 10_000
"""Rows that wait for another's answer, at most."""


@dataclass(slots=True)
class _First:
    """A row that is under way, or not yet on disk, and those that wait for its answer."""

    custom_id: str
    message: "Message | None" = None
    followers: list[Row] = field(default_factory=list[Row])


class Deduplicator:
    """What is asked more than once."""

    def __init__(self, results: ResultsFile) -> None:
        """Read which answers there are.

        Raises:
            OSError: The results cannot be read.
        """
        self._results = results
        self._places = HashIndex()
        self._firsts: dict[int, _First] = {}
        self._waiting = 0
        self._moved = asyncio.Event()
        for place, entry in results.entries():
            if entry.answered and entry.hash is not None:
                self._places[entry.hash] = place

    async def room(self) -> None:
        """Wait while too many rows wait for another's answer."""
        while self._waiting >= MOST_WAITING:
            self._moved.clear()
            await self._moved.wait()

    def answer(self, hash_: int) -> "tuple[str, Message | Mapping[str, object]] | None":
        """The answer to a request, if it is there, and the row that got it.

        Raises:
            NotResults: It is damaged.
            OSError: It could not be read.
        """
        first = self._firsts.get(hash_)
        if first is not None:
            return None if first.message is None else (first.custom_id, first.message)
        place = self._places.get(hash_)
        if place is None:
            return None
        line = next(self._results.parsed([place]))
        return line.custom_id, line.message or {}

    def follow(self, row: Row, hash_: int) -> bool:
        """Let a row wait for the one that asks the same; `False` if it is the first."""
        first = self._firsts.get(hash_)
        if first is None:
            self._firsts[hash_] = _First(row.custom_id)
            return False
        first.followers.append(row)
        self._waiting += 1
        return True

    def settle(self, hash_: int) -> list[Row]:
        """The first of them has its result, or will have none: those that waited for it."""
        followers = self._firsts.pop(hash_).followers
        self._waiting -= len(followers)
        self._moved.set()
        return followers

    def keep(
        self, hash_: int, custom_id: str, message: "Message", place: int, on_disk: "asyncio.Future[None]"
    ) -> None:
        """Have an answer ready for rows to come: until it is on disk here, then at its place there."""
        self._firsts[hash_] = _First(custom_id, message)
        on_disk.add_done_callback(partial(self._forget, hash_, place))

    def _forget(self, hash_: int, place: int, on_disk: "asyncio.Future[None]") -> None:
        if not on_disk.cancelled() and on_disk.exception() is None:
            self._places[hash_] = place
            del self._firsts[hash_]
