"""Removes folders in which an agent has written, and may still write: without following links, whatever their modes and depth.

The standard library's `rmtree` stops at folders that are closed to their owner, and its error handler is given path names, which
lead elsewhere once somebody has put a link in their place. Here everything goes by descriptors.
"""

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MAX_DEPTH: Final = 64
"""What lies deeper is moved up first: an agent may nest folders without end, and each level takes a descriptor."""

MAX_ROUNDS: Final = 100_000


def remove_tree(path: Path) -> None:
    """Remove a folder and all that is in it. One that is not there is fine. Raises `OSError` where something resists."""
    if not hasattr(os, "O_PATH"):  # not Linux
        shutil.rmtree(path, ignore_errors=False)
        return
    try:
        top = _open(str(path), None)
    except FileNotFoundError:
        return
    try:
        numbers = itertools.count()
        for _ in range(MAX_ROUNDS):
            if not _empty(top, top, 0, numbers):
                break
    finally:
        os.close(top)
    os.rmdir(path)


def _empty(folder: int, top: int, depth: int, numbers: Iterator[int]) -> bool:
    """Remove what is in a folder. Whether something was moved to the top, where it has to be removed yet."""
    moved = False
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        if not is_folder:
            os.unlink(name, dir_fd=folder)
        elif depth >= MAX_DEPTH:
            os.rename(name, f".removed-{next(numbers)}", src_dir_fd=folder, dst_dir_fd=top)
            moved = True
        else:
            moved |= _remove(name, folder, top, depth, numbers)
    return moved


def _remove(name: str, parent: int, top: int, depth: int, numbers: Iterator[int]) -> bool:
    inner = _open(name, parent)
    try:
        moved = _empty(inner, top, depth + 1, numbers)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=parent)
    return moved


def _open(name: str, parent: int | None) -> int:
    """Open a folder for reading, and open it to us first if it is closed. A link in its place is an error."""
    seen = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        itself = f"/proc/self/fd/{seen}"
        if os.stat(itself).st_mode & 0o700 != 0o700:
            os.chmod(itself, 0o700)
        return os.open(itself, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(seen)
