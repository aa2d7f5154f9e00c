"""How long work tells whoever started it how far it is."""

from typing import Protocol


class Progress(Protocol):
    """A listener to one operation. Calls come from several threads; none may block for long."""

    def begin(self, activity: str, total: int | None) -> None:
        """A phase starts: `activity` is a present participle (`reading`), `total` its bytes where they are known."""
        ...

    def advance(self, amount: int) -> None:
        """So many more bytes of the phase are done."""
        ...

    def end(self) -> None:
        """The phase is over, done or not."""
        ...


class Silent:
    """Nobody listens."""

    def begin(self, activity: str, total: int | None) -> None:
        """Ignore it."""

    def advance(self, amount: int) -> None:
        """Ignore it."""

    def end(self) -> None:
        """Ignore it."""
