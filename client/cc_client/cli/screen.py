"""Where the command writes: styled pieces to the terminal, JSON lines to pipes, notes and errors to stderr.

The one place with output. What comes from agents was cleaned before it gets here (`render`).
"""

import json
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.text import Text

from cc_client.render.ends import Line


class Screen:
    """`quiet`: standard output belongs to JSON lines, and all else goes to standard error."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=quiet, highlight=False)
        self._errors = Console(stderr=True, highlight=False)
        self.width = self._console.width if self._console.is_terminal else 0

    @property
    def interactive(self) -> bool:
        return self._console.is_terminal

    def pieces(self, pieces: Iterable[Line]) -> None:
        """Write as it is: no wrapping, no markup, no newline added."""
        for text, style in pieces:
            self._console.print(Text(text, style=style), end="", soft_wrap=True)

    def line(self, text: str = "", style: str = "") -> None:
        self.pieces([(text + "\n", style)])

    def note(self, text: str, style: str = "dim") -> None:
        """A word about the command itself, on standard error."""
        self._errors.print(Text(text, style=style), soft_wrap=True)

    def waiting(self, text: str) -> Any:
        """A context that shows that something is under way: a spinner on a terminal, else one line."""
        if not self._errors.is_terminal:
            self.note(text)
        return self._errors.status(Text(text))

    @staticmethod
    def json(data: Any) -> None:
        """One line of JSON, in ASCII: no byte of it can steer a terminal."""
        sys.stdout.write(json.dumps(data) + "\n")
        sys.stdout.flush()
