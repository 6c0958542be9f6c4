"""Cuts a stream of bytes into lines, whatever the chunks (pure).

A line may be many megabytes. One above the limit becomes an `Oversize` marker; its bytes are passed over as they
come and the lines after it are cut as ever.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Oversize:
    """Stands for a line that was longer than the limit."""

    size: int


class Framer:
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes | Oversize]:
        """The lines that end in this chunk, without their line ends; empty ones are left out."""
        *ended, rest = chunk.split(b"\n")
        lines = [line for piece in ended if (line := self._end(piece)) is not None]
        self._keep(rest)
        return lines

    def close(self) -> list[bytes | Oversize]:
        """What was left without a line end when the stream ended."""
        line = self._end(b"")
        return [] if line is None else [line]

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            self._parts.clear()
        elif piece:
            self._parts.append(piece)

    def _end(self, piece: bytes) -> bytes | Oversize | None:
        self._keep(piece)
        size, self._size = self._size, 0
        line = b"".join(self._parts)
        self._parts.clear()
        if size > self._limit:
            return Oversize(size)
        return line.strip() or None
