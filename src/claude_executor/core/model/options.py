"""Options of a request: priority, tenant and deadline."""

from typing import NamedTuple


class RequestOptions(NamedTuple):
    """Options of one request.

    Attributes:
        priority: Larger goes first; requests of equal priority share.
        tenant: Requests of different tenants share the limits fairly.
        deadline: Seconds from now within which the last attempt must start; None for no deadline.
    """

    priority: int = 0
    tenant: str = ""
    deadline: float | None = None


DEFAULT_OPTIONS = RequestOptions()
