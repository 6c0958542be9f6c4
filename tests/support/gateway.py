"""A real gateway in a process of its own, started as a user starts it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from support.api import Api
from support.stack import stack

START_SECONDS = 60


class GatewayProcess:
    """`python -m cc_gateway serve` on a free port, with a data folder of its own."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        self.data_dir = data_dir
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self.facts: dict[str, Any] = {}

    @property
    def log_file(self) -> Path:
        return self.data_dir.parent / f"{self.data_dir.name}.log"

    @property
    def url(self) -> str:
        return str(self.facts["url"])

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def environment(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("CC_", "ANTHROPIC_", "CLAUDE_"))}
        defaults = {
            "CC_DATA_DIR": str(self.data_dir),
            "CC_SCRIPTED": "true",
            "CC_LOG_LEVEL": "info",
            "CC_CLONE_PRIVATE": "true",
        }
        return clean | defaults | stack.environment(self.data_dir) | self._environment

    def start(self, *arguments: str) -> "GatewayProcess":
        command = [sys.executable, "-m", "cc_gateway", "serve", "--port", "0", *arguments]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(command, env=self.environment(), stdout=log, stderr=log)
        place = self.data_dir / "gateway.json"
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise AssertionError(f"the gateway ended with {self._process.returncode}:\n{self.log()}")
            if self._answers(place):
                return self
            time.sleep(0.02)
        raise AssertionError(f"the gateway did not start in {START_SECONDS} s:\n{self.log()}")

    def _answers(self, place: Path) -> bool:
        try:
            self.facts = json.loads(place.read_text())
            if self.facts["pid"] != self.pid:
                return False
            return httpx.get(f"{self.url}/health/ready").status_code == 200
        except (OSError, ValueError, httpx.HTTPError):
            return False

    def stop(self, seconds: float = 30) -> int:
        """Ask it to stop, and wait for its end."""
        assert self._process
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(seconds)

    def kill(self) -> None:
        """As if the machine had taken it."""
        assert self._process
        self._process.kill()
        self._process.wait(10)

    def close(self) -> None:
        if self._process and self._process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")[-4000:]

    def token(self, subject: str = "tester") -> str:
        command = [sys.executable, "-m", "cc_gateway", "token", "--subject", subject]
        return subprocess.check_output(command, env=self.environment(), text=True).strip()

    def api(self, token: str | None = None) -> Api:
        """A client of the local user, or of whoever the token is for."""
        return Api(self.url, token or self.facts["token"])
