"""How a request stands among others."""

from typing import NamedTuple


class RequestOptions(NamedTuple):
    """How a request stands among others.

    Attributes:
        priority: Larger goes first; equal ones share.
        tenant: Requests of different tenants share the limits fairly.
        deadline: Seconds from now by which the last attempt must have started, at the latest.
    """

    priority: int = 0
    tenant: str = ""
    deadline: float | None = None


DEFAULT_OPTIONS = RequestOptions()
