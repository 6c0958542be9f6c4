"""What wrappers wrote to their output, a file a session, so that it can be read after they have ended."""

import os
from pathlib import Path
from typing import BinaryIO, Final, cast

MAX_LOG: Final = 5 * 1024 * 1024
MAX_TAIL: Final = 256 * 1024


class LogFile:
    """`<logs>/<session>.log`, begun anew by the next incarnation once it is too long."""

    def __init__(self, folder: Path, session_id: str) -> None:
        self._path = folder / f"{session_id}.log"

    def open(self) -> BinaryIO:
        """For what is to be written behind the rest. Raises `OSError`."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        too_long = self._path.exists() and self._path.stat().st_size > MAX_LOG
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if too_long else os.O_APPEND), 0o600)
        return cast(BinaryIO, os.fdopen(descriptor, "wb"))

    def append(self, text: str) -> None:
        with self.open() as file:
            file.write(text.encode(errors="replace"))

    def tail(self, lines: int) -> str:
        """The last lines; empty where there are none."""
        try:
            with self._path.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - MAX_TAIL))
                return last_lines(file.read(MAX_TAIL).decode(errors="replace"), lines)
        except OSError:
            return ""


def last_lines(text: str, count: int) -> str:
    return "\n".join(text.splitlines()[-count:]) if count > 0 else ""
