"""Text of agents made safe for a terminal (pure).

An agent's words may hold escape sequences: they could rewrite the screen, the title, or the clipboard (OSC 52). Whole
sequences go, with what they carry; so do all other control characters but newline and tab, and the marks that reverse
the direction of text.
"""

import re
from typing import Final

_ESCAPES: Final = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor, modes
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)"  # OSC, DCS, …: strings
    r"|\x1b[ -/]*[0-OQ-WYZ\\`-~]"  # the short ones
)
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_SURROGATES: Final = re.compile(r"[\ud800-\udfff]")
_UNFINISHED: Final = re.compile(
    r"(?:(?:\x1b\[|\x9b)[0-?]*[ -/]*|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*\x1b?|\x1b[ -/]*|\r)\Z"
)
_LONGEST_SEQUENCE: Final = 100_000


def clean(text: str) -> str:
    """The text without escape sequences and control characters; newlines and tabs stay."""
    text = _ESCAPES.sub("", text.replace("\r\n", "\n"))
    return _SURROGATES.sub("\ufffd", _CONTROLS.sub("", text))


def one_line(text: str, width: int = 0) -> str:
    """The text cleaned, on one line, and shortened to `width` characters where that is not 0."""
    line = " ".join(clean(text).split())
    return line if not width or len(line) <= width else line[: max(1, width - 1)] + "…"


class Cleaner:
    """`clean` for text that comes in pieces: an escape sequence cut in two is held back until its end is there."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        text = self._held + piece
        cut = _UNFINISHED.search(text)
        start = cut.start() if cut and len(text) - cut.start() <= _LONGEST_SEQUENCE else len(text)
        self._held = text[start:]
        return clean(text[:start])

    def flush(self) -> str:
        held, self._held = self._held, ""
        return clean(held)
