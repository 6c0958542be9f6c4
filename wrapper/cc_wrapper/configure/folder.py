"""Reading and writing below a folder that somebody else writes to, too: never through a link.

Paths are walked component by component with O_NOFOLLOW, so a planted link ends the walk, whatever it points to.
"""

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_IN_THE_WAY: Final = {errno.ENOTDIR, errno.ELOOP, errno.EACCES}
_FILE: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str, *, limit: int) -> str | None:
        """At most `limit` bytes of a regular file as text; None where there is no such file."""
        try:
            with self._parent(path, enter=_enter) as (parent, name):
                file = os.open(name, os.O_RDONLY | _FILE, dir_fd=parent)
                with os.fdopen(file, "rb") as opened:
                    if not stat.S_ISREG(os.fstat(file).st_mode):
                        return None
                    return opened.read(limit).decode("utf-8", "replace")
        except OSError:
            return None

    def create(self, path: str, text: str) -> bool:
        """Write a new file; False where anything stands there, or in the way."""
        try:
            with self._parent(path, enter=_enter_or_make) as (parent, name):
                self._write(name, text, parent)
        except OSError:
            return False
        return True

    def replace(self, path: str, text: str) -> None:
        """Write a file in the place of whatever stands there or in the way; a link is replaced, not followed."""
        with self._parent(path, enter=_enter_for_sure) as (parent, name):
            temporary = f".{name}.{os.getpid()}.tmp"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=parent)
            self._write(temporary, text, parent)
            try:
                os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
            except IsADirectoryError:
                _discard(name, parent)
                os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)

    def remove(self, path: str) -> None:
        """Remove a file, a link, or a folder with all that is in it."""
        with contextlib.suppress(OSError), self._parent(path, enter=_enter) as (parent, name):
            _discard(name, parent)

    def _write(self, name: str, text: str, parent: int) -> None:
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE, 0o600, dir_fd=parent)
        with os.fdopen(file, "w", encoding="utf-8") as opened:
            opened.write(text)

    @contextmanager
    def _parent(self, path: str, *, enter: Callable[[str, int], int]) -> Iterator[tuple[int, str]]:
        """The open folder that holds the last component of `path`, and that component."""
        *folders, name = path.split("/")
        if any(part in {"", ".", ".."} for part in (*folders, name)):
            raise ValueError(f"not a plain relative path: {path}")
        current = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in folders:
                below = enter(part, current)
                os.close(current)
                current = below
            yield current, name
        finally:
            os.close(current)


def _enter(name: str, parent: int) -> int:
    return os.open(name, _DIRECTORY, dir_fd=parent)


def _enter_or_make(name: str, parent: int) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=parent)
    return _enter(name, parent)


def _enter_for_sure(name: str, parent: int) -> int:
    """As a folder, whatever stands there: a file, a link, or a folder that nobody may enter makes room."""
    try:
        return _enter_or_make(name, parent)
    except OSError as error:
        if error.errno not in _IN_THE_WAY:
            raise
        _discard(name, parent)
        return _enter_or_make(name, parent)


def _discard(name: str, parent: int) -> None:
    """Out of the way first, so that it counts no more even where it cannot be removed (too deep, no permission)."""
    discarded = f".{name}.{uuid.uuid4().hex}.discarded"
    os.rename(name, discarded, src_dir_fd=parent, dst_dir_fd=parent)
    with contextlib.suppress(OSError, RecursionError):
        _remove(discarded, parent)


def _remove(name: str, parent: int) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except IsADirectoryError:
        below = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            for inner in os.listdir(below):
                _remove(inner, below)
        finally:
            os.close(below)
        os.rmdir(name, dir_fd=parent)
