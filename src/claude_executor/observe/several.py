"""Several listeners in the place of one."""

from collections.abc import Callable

from claude_executor.core.model.events import Event


def all_of(*listeners: Callable[[Event], None]) -> Callable[[Event], None]:
    """A listener that tells several. What one of them raises does not keep the event from the others.

    It is raised when all have been told, so that the executor reports it as that of a single listener:
    together, as an `ExceptionGroup`, where several failed.
    """

    def listen(event: Event) -> None:
        errors: list[Exception] = []
        for listener in listeners:
            try:
                listener(event)
            except Exception as error:  # a stranger's code may raise anything
                errors.append(error)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise ExceptionGroup("several listeners raised exceptions", errors)

    return listen
