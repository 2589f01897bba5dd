"""A journal for `Executor.map`, on a results file: code gets what ``claude-executor run`` gives to files.

A request is known by what it is, not by where it stands: prompts may be reordered, added and taken away
between two calls. Requests that are equal are told apart by how many of them came before, so that a prompt
sent ten times has ten answers, at the second call as at the first.

Answers are kept; failures are not, for what has failed is sent again at the next call.
"""

import asyncio
import threading
import time
from pathlib import Path
from types import TracebackType

from claude_executor import Params, Result
from claude_executor.bulk.results.hash_index import HashIndex
from claude_executor.bulk.results.line import Provenance, hash_of, succeeded
from claude_executor.bulk.results.writer import ResultsFile


class Journal:
    """Keeps the answers of one `Executor.map` on disk before they are yielded, and gives them to the next.

    ::

        async for result in executor.map(prompts, journal=Journal("answers.jsonl")):
            …

    The file is a results file: a line has the form of Message Batches results, under a `custom_id` made of
    the hash of the request.
    """

    def __init__(self, path: Path | str) -> None:
        """Nothing is opened before `map` begins."""
        self.path = Path(path)
        self._results: ResultsFile | None = None
        self._places = HashIndex()
        self._seen = HashIndex()
        self._pending: dict[int, tuple[str, int]] = {}

    async def __aenter__(self) -> None:
        """Open the file, and read what is in it.

        Raises:
            Busy: Another process writes it.
            NotResults: It holds something else.
            OSError: It cannot be opened.
        """
        opening = _Opening()
        try:
            await asyncio.to_thread(self._open, opening)
        except asyncio.CancelledError:
            opening.leave()  # the thread goes on, and must not leave the file open for nobody
            raise
        self._results = opening.results

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what was kept and not yet written, and close the file."""
        if self._results is not None:
            results, self._results = self._results, None
            try:
                await results.flush()
            finally:
                results.close()

    def find(self, index: int, params: Params) -> Result | None:
        """The answer to this request, if there is one.

        Raises:
            NotResults: It is damaged.
        """
        assert self._results is not None
        hash_ = hash_of(params)
        before = self._seen.get(hash_) or 0
        self._seen[hash_] = before + 1
        custom_id = f"{hash_:016x}-{before + 1}" if before else f"{hash_:016x}"
        place = self._places.get(hash(custom_id))
        if place is None:
            self._pending[index] = (custom_id, hash_)
            return None
        from anthropic.types import Message

        message = next(self._results.parsed([place])).message
        return Result(index, params, Message.construct(**(message or {})))

    async def keep(self, result: Result) -> None:
        """Keep an answer; returns when it is on disk.

        Raises:
            OSError: It cannot be written.
        """
        assert self._results is not None
        custom_id, hash_ = self._pending.pop(result.index, ("", 0))  # what is no request was not even found
        if result.message is not None:
            line = succeeded(custom_id, result.message, {}, Provenance.of(result, hash_, time.time()))
            await asyncio.shield(self._results.add(line))

    def _open(self, opening: "_Opening") -> None:
        results = ResultsFile.open(self.path)
        # A journal may be given to one call after another, and each of them begins to count anew.
        self._places, self._seen = HashIndex(), HashIndex()
        self._pending.clear()
        try:
            for place, entry in results.entries():
                if opening.is_left:
                    break
                if entry.answered:
                    self._places[hash(entry.custom_id)] = place
        except BaseException:
            results.close()
            raise
        opening.done(results)


class _Opening:
    """The opening of a file in a thread, for somebody who may be gone before it is done."""

    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()
        self.is_left = False
        self.results: ResultsFile | None = None

    def done(self, results: ResultsFile) -> None:
        """Here they are."""
        with self._one_at_a_time:
            if self.is_left:
                results.close()
            else:
                self.results = results

    def leave(self) -> None:
        """Nobody wants them any more."""
        with self._one_at_a_time:
            self.is_left = True
            if self.results is not None:
                self.results.close()
