"""One budget for many executors: what keeps it, as the executor sees it."""

from typing import Protocol

from claude_executor.core.model.sharing import Lease, LeaseRequest, Membership

__all__ = ["Budget", "Unreachable"]


class Unreachable(ConnectionError):
    """The budget did not answer, or not in time."""


class Budget(Protocol):
    """What keeps the levels of a group."""

    @property
    def membership(self) -> Membership:
        """How this executor takes part."""
        ...

    async def open(self) -> None:
        """Get ready to be asked."""
        ...

    async def lease(self, pool: str, ask: LeaseRequest) -> Lease:
        """Put it to the group.

        Raises:
            Unreachable: There was no answer.
        """
        ...

    async def close(self) -> None:
        """Ask nothing more."""
        ...
