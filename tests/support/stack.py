"""What the gateways under test stand on: `embedded` (processes, SQLite) or `full` (containers, PostgreSQL).

`CC_TEST_STACK` chooses. The same tests run on both; those that are about one of them alone say so with the marker `embedded`.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.postgres import PostgresServer, create_database

PYTHON = "python3" if os.environ.get("CC_TEST_STACK") == "full" else sys.executable
"""A Python as it is called where sessions run."""

FULL = os.environ.get("CC_TEST_STACK", "embedded") == "full"


class _Stack:
    """The database server of the full stack, and a database for each data folder: it stays when its gateway restarts."""

    def __init__(self) -> None:
        self.postgres: PostgresServer | None = None
        self._databases: dict[Path, str] = {}

    def environment(self, data_dir: Path) -> dict[str, str]:
        """The settings by which a gateway uses the stack."""
        if not FULL:
            return {"CC_DRIVER": "process"}
        assert self.postgres, "the full stack has not been started"
        if data_dir not in self._databases:
            with ThreadPoolExecutor(1) as apart:  # a test's event loop may run in this thread
                self._databases[data_dir] = apart.submit(create_database, self.postgres).result(60)
        return {"CC_DRIVER": "docker", "CC_DATABASE_URL": self._databases[data_dir]}


stack = _Stack()
