"""The files of a bulk job, opened and closed together: its rows, its results and its timeline."""

from contextlib import ExitStack
from os import devnull
from pathlib import Path
from threading import Event

from claude_executor.bulk.input.sources import CancellableSource, Source, readable
from claude_executor.bulk.job_target import ResultsNotWritable
from claude_executor.bulk.results.pipe_writer import PipeWriter
from claude_executor.bulk.results.reader import ResultsReader
from claude_executor.bulk.results.writer import ResultsFile
from claude_executor.bulk.run.timeline import Timeline, timeline_of


class JobFiles:
    """The source and the results of one job.

    Attributes:
        source: The rows; what comes through a pipe is in a temporary file.
        reader: The results so far; empty if there can be none.
        results: The results file to write; `None` for a pipe and for a dry run.
    """

    source: Source
    reader: ResultsReader

    def __init__(self, path: Path, target: Path | PipeWriter, *, overwrite: bool, dry_run: bool) -> None:
        self.results: ResultsFile | None = None
        self._path = path
        self._target = target
        self._overwrite = overwrite
        self._dry_run = dry_run
        self._stack = ExitStack()

    def open(self, abandoned: Event) -> None:
        """Open the source, and open or look at the results; call `close` also if this fails.

        Args:
            abandoned: Ends every reading of the source when it is set.

        Raises:
            BadInput: There is no room for what comes through a pipe.
            FileBusy: Another process writes the results.
            NotResults: The target holds something else.
            ResultsNotWritable: The target cannot be written.
            OSError: A file cannot be read.
        """
        opened = self._stack.enter_context(readable(self._path))
        self.source = CancellableSource(opened.path, opened.name, opened, abandoned)
        if isinstance(self._target, PipeWriter) or (self._dry_run and self._overwrite):
            self.reader = ResultsReader.open_readonly(Path(devnull))
        elif self._dry_run:
            self.reader = ResultsReader.open_readonly(self._target)
        else:
            self.reader = self.results = self._opened_results(self._target)
            self._stack.callback(self.results.close)

    def _opened_results(self, target: Path) -> ResultsFile:
        try:
            return ResultsFile.open(target, overwrite=self._overwrite)
        except FileExistsError:
            raise  # the message says what is in the way
        except OSError as error:
            raise ResultsNotWritable(error.errno, error.strerror, error.filename) from error

    def close(self) -> None:
        """Write what is not yet on disk, close the files and release the lock."""
        self._stack.close()

    def timeline(self) -> Timeline | None:
        """Return the timeline beside the results; `None` if the results are no regular file."""
        results, target = self.results, self._target
        if results is None or not isinstance(target, Path) or not target.is_file():
            return None
        return Timeline(timeline_of(target), begun=(lambda: results.begun) if results.end == 0 else None)
