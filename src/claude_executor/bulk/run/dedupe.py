"""Rows with equal requests: the first is sent, and all of them get its answer.

While the first is in flight the others wait for it. Later ones get a copy from the results file, by the
offset of its line; an answer stays in memory only until it is on disk.
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
"""Maximum number of rows that wait for the answer of another."""


@dataclass(slots=True)
class _First:
    """A row that is in flight or not yet on disk, and the rows that wait for its answer."""

    custom_id: str
    message: "Message | None" = None
    followers: list[Row] = field(default_factory=list[Row])


class Deduplicator:
    """Finds rows with equal requests, and the answer they share."""

    def __init__(self, results: ResultsFile) -> None:
        """Read which requests are answered already.

        Raises:
            OSError: The results cannot be read.
        """
        self._results = results
        self._offsets = HashIndex()
        self._firsts: dict[int, _First] = {}
        self._waiting = 0
        self._moved = asyncio.Event()
        for offset, entry in results.entries():
            if entry.answered and entry.hash is not None:
                self._offsets[entry.hash] = offset

    async def room(self) -> None:
        """Wait while too many rows wait for the answer of another."""
        while self._waiting >= MOST_WAITING:
            self._moved.clear()
            await self._moved.wait()

    def answer(self, hash_: int) -> "tuple[str, Message | Mapping[str, object]] | None":
        """Return the id of the row that was answered first, and its answer; `None` if there is none yet.

        Raises:
            NotResults: The line of the answer is damaged.
            OSError: The results cannot be read.
        """
        first = self._firsts.get(hash_)
        if first is not None:
            return None if first.message is None else (first.custom_id, first.message)
        offset = self._offsets.get(hash_)
        if offset is None:
            return None
        line = next(self._results.parsed([offset]))
        return line.custom_id, line.message or {}

    def follow(self, row: Row, hash_: int) -> bool:
        """Let a row wait for the answer to an equal request; return `False` if this row is the first."""
        first = self._firsts.get(hash_)
        if first is None:
            self._firsts[hash_] = _First(row.custom_id)
            return False
        first.followers.append(row)
        self._waiting += 1
        return True

    def settle(self, hash_: int) -> list[Row]:
        """Return the rows that waited for this request, which has a result now or will have none."""
        followers = self._firsts.pop(hash_).followers
        self._waiting -= len(followers)
        self._moved.set()
        return followers

    def keep(
        self, hash_: int, custom_id: str, message: "Message", offset: int, on_disk: "asyncio.Future[None]"
    ) -> None:
        """Keep an answer for later rows: in memory until it is on disk, then by its offset."""
        self._firsts[hash_] = _First(custom_id, message)
        on_disk.add_done_callback(partial(self._forget, hash_, offset))

    def _forget(self, hash_: int, offset: int, on_disk: "asyncio.Future[None]") -> None:
        if not on_disk.cancelled() and on_disk.exception() is None:
            self._offsets[hash_] = offset
            del self._firsts[hash_]
