"""Examines this machine as `cc-docker doctor` does, with settings of the test's own and no others."""

import os
import tempfile
from pathlib import Path

import pytest

from cc_gateway.doctor.configuration import read_settings
from cc_gateway.doctor.examination import Examination, examine
from gateway.doctor.looking import Look


@pytest.fixture
def place(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, and an environment that says nothing."""
    for name in list(os.environ):
        if name.startswith(("CC_", "ANTHROPIC_", "CLAUDE_")):
            monkeypatch.delenv(name)
    folder = Path(tempfile.mkdtemp(dir=short_dir))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def look(place: Path, monkeypatch: pytest.MonkeyPatch) -> Look:
    async def look(**settings: str) -> Examination:
        defaults = {"CC_DATA_DIR": str(place / "data"), "CC_DRIVER": "process", "CC_PORT": "0"}
        for name, value in (defaults | settings).items():
            monkeypatch.setenv(name, value)
        return await examine(*read_settings())

    return look
