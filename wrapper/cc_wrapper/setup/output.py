"""What a script writes, cut into texts of a bounded size (pure).

Lines stay whole where they can, and so does every character; bytes that are no UTF-8 are replaced. Beyond a limit nothing
more is kept but the end, which says best why a script failed.
"""

import codecs
import re
from typing import Final

LIMIT: Final = 1024 * 1024
TEXT_LIMIT: Final = 16 * 1024
"""Characters of one text, and so of one event."""

_TAIL_BYTES: Final = 16 * 1024
_TAIL_LINES: Final = 20
_TAIL_CHARACTERS: Final = 1500
_LINE_END: Final = re.compile(r"[\r\n]+")


class Output:
    def __init__(self, limit: int = LIMIT, text_limit: int = TEXT_LIMIT) -> None:
        self._limit, self._text_limit = limit, text_limit
        self._left = limit
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting = ""
        self._tail = b""

    @property
    def waits(self) -> bool:
        """Whether anything is left to `flush`."""
        return bool(self._waiting)

    def feed(self, data: bytes) -> list[str]:
        """The texts that are full with this; what is less waits."""
        self._tail = (self._tail + data)[-_TAIL_BYTES:]
        if self._left < 0:
            return []
        taken, self._left = data[: self._left], self._left - len(data)
        self._waiting += self._decoder.decode(taken)
        return self._full() if self._left >= 0 else [*self.close(), self._note()]

    def flush(self) -> list[str]:
        """What has waited, up to the end of its last whole line; all of it where there is none."""
        cut = self._waiting.rfind("\n") + 1 or len(self._waiting)
        return self._cut(cut) if self._waiting else []

    def close(self) -> list[str]:
        """All that is left."""
        self._waiting += self._decoder.decode(b"", final=True)
        return [*self._full(), *self._cut(len(self._waiting))]

    def tail(self) -> str:
        """The last lines that hold anything, whatever was left out of the texts."""
        lines = [line.rstrip() for line in _LINE_END.split(self._tail.decode("utf-8", "replace"))]
        last = "\n".join([line for line in lines if line][-_TAIL_LINES:])
        return last if len(last) <= _TAIL_CHARACTERS else "…" + last[-_TAIL_CHARACTERS:]

    def _full(self) -> list[str]:
        texts: list[str] = []
        while len(self._waiting) >= self._text_limit:
            texts += self._cut(self._waiting.rfind("\n", 0, self._text_limit) + 1 or self._text_limit)
        return texts

    def _cut(self, end: int) -> list[str]:
        text, self._waiting = self._waiting[:end], self._waiting[end:]
        return [text] if text else []

    def _note(self) -> str:
        return f"\n[the rest is left out: more than {self._limit} bytes of output]\n"
