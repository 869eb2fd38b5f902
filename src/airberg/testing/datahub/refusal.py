"""What the double answers when it does not do what it is asked."""

from __future__ import annotations

from airberg.errors import AirbergError


class Refused(AirbergError):
    """The service would answer with this status.

    Attributes:
        status: Of HTTP.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
