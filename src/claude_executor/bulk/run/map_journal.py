"""A journal for `Executor.map` on a results file, which makes a map as resumable as ``claude-executor run``.

A request is identified by its content, not by its position: prompts may be reordered, added and removed
between two calls. Equal requests are distinguished by how many came before, so a prompt that is sent ten
times has ten answers, in the second call as in the first.

Answers are kept. Failures are not: the next call sends them again.
"""

import asyncio
import threading
import time
from pathlib import Path
from types import TracebackType

from claude_executor import Params, Result, message_from_json
from claude_executor.bulk.results.hash_index import HashIndex
from claude_executor.bulk.results.line import Provenance, hash_of, succeeded
from claude_executor.bulk.results.writer import ResultsFile


class Journal:
    """Keeps the answers of one `Executor.map` on disk before they are yielded, for the next call to reuse.

    ::

        async for result in executor.map(prompts, journal=Journal("answers.jsonl")):
            …

    The file is a results file. Its lines have the form of Message Batches results, with a `custom_id` made of
    the hash of the request.
    """

    def __init__(self, path: Path | str) -> None:
        """Take the path. The file is opened when `map` begins."""
        self.path = Path(path)
        self._results: ResultsFile | None = None
        self._offsets = HashIndex()
        self._seen = HashIndex()
        self._pending: dict[int, tuple[str, int]] = {}

    async def __aenter__(self) -> None:
        """Open the file, and read which requests are answered.

        Raises:
            FileBusy: Another process writes the file.
            NotResults: The file holds something else.
            OSError: The file cannot be opened.
        """
        opening = _Opening()
        try:
            await asyncio.to_thread(self._open, opening)
        except asyncio.CancelledError:
            opening.leave()  # the thread continues, and must not leave the file open
            raise
        self._results = opening.results

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is not yet on disk, and close the file."""
        if self._results is not None:
            results, self._results = self._results, None
            try:
                await results.flush()
            finally:
                results.close()

    def find(self, index: int, params: Params) -> Result | None:
        """Return the answer to a request, if there is one.

        Raises:
            NotResults: The line of the answer is damaged.
        """
        assert self._results is not None
        hash_ = hash_of(params)
        before = self._seen.get(hash_) or 0
        self._seen[hash_] = before + 1
        custom_id = f"{hash_:016x}-{before + 1}" if before else f"{hash_:016x}"
        offset = self._offsets.get(hash(custom_id))
        if offset is None:
            self._pending[index] = (custom_id, hash_)
            return None
        line = next(self._results.parsed([offset]))
        return Result(index, params, message_from_json(line.message or {}))

    async def keep(self, result: Result) -> None:
        """Write an answer, and return when it is on disk.

        Raises:
            OSError: The answer cannot be written.
        """
        assert self._results is not None
        custom_id, hash_ = self._pending.pop(result.index, ("", 0))  # an invalid request never reached `find`
        if result.message is not None:
            line = succeeded(custom_id, result.message, {}, Provenance.of(result, hash_, time.time()))
            await asyncio.shield(self._results.add(line))

    def _open(self, opening: "_Opening") -> None:
        results = ResultsFile.open(self.path)
        # A journal may be used for several calls; each counts equal requests from the start.
        self._offsets, self._seen = HashIndex(), HashIndex()
        self._pending.clear()
        try:
            for offset, entry in results.entries():
                if opening.is_left:
                    break
                if entry.answered:
                    self._offsets[hash(entry.custom_id)] = offset
        except BaseException:
            results.close()
            raise
        opening.done(results)


class _Opening:
    """The opening of a file in a thread, by a caller who may be cancelled before it is done."""

    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()
        self.is_left = False
        self.results: ResultsFile | None = None

    def done(self, results: ResultsFile) -> None:
        """Hand over the opened results, or close them if the caller is gone."""
        with self._one_at_a_time:
            if self.is_left:
                results.close()
            else:
                self.results = results

    def leave(self) -> None:
        """Give up the opening: close the results now, or when they are open."""
        with self._one_at_a_time:
            self.is_left = True
            if self.results is not None:
                self.results.close()
