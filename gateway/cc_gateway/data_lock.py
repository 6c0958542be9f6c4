"""Holds the data folder for one gateway. The lock ends with the process, however it ends."""

import fcntl
import os
from pathlib import Path

from cc_gateway.errors import StartupError


class DataLock:
    """A context manager. Raises `StartupError` that names the holder where another gateway has the folder."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "gateway.lock"

    def __enter__(self) -> None:
        self._file = self._path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise StartupError(
                f"another gateway (pid {holder}) uses the data folder {self._path.parent}: stop it, or set CC_DATA_DIR to"
                " another folder",
                code="data_dir_in_use",
            ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def __exit__(self, *_error: object) -> None:
        self._file.close()
