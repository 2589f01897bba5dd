"""The executor for code without async: the same one, on an event loop in a thread of its own."""

from claude_executor.sync.executor import Executor, ExecutorOptions, Stream, map_sync, submit_sync

__all__ = ["Executor", "ExecutorOptions", "Stream", "map_sync", "submit_sync"]
