"""What all training needs: devices, processes, the order of the data, checkpoints and reports.

`copier update` brings fixes to this folder, and merges them with your changes. The folder imports
nothing from the rest of the package.
"""

from __future__ import annotations


class UserError(Exception):
    """An error that the user can fix: one line says what is wrong and what to do."""

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows."""
        return [str(self)]


class ReportedError(UserError):
    """An error that another process of the run reports."""


class Stopped(BaseException):
    """A signal ended the run early. Like KeyboardInterrupt, `except Exception` does not catch it.

    Attributes:
        number: Number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.number = number

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows."""
        return [str(self)]


def first_line(error: object) -> str:
    """Return the first line of an error or a warning, or its type if it has no message.

    The message of an error in a worker begins with a traceback: of that, return the last line.
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1 if lines[0].startswith("Caught ") else 0]
