"""Specs of sessions, as drivers are given them."""

import os
import shutil
from pathlib import Path

import pytest

from cc_gateway.drivers.base import Folders, Owner, SessionSpec
from cc_gateway.services.folders import give
from cc_protocol.ids import SESSION, new_id
from cc_protocol.launch import Launch, Secrets
from contracts.driver_contract import SECRET, MakeSpec


@pytest.fixture
def owner() -> Owner | None:
    """Whom the folders of sessions have to belong to; None for ourselves."""
    return None


@pytest.fixture
def make_spec(short_dir: Path, owner: Owner | None) -> MakeSpec:
    """Makes specs; the same session id again is the same session."""

    def make(session_id: str | None = None, incarnation: int = 1) -> SessionSpec:
        session_id = session_id or new_id(SESSION)
        root = short_dir / "drivers" / session_id
        folders = Folders(root / "workspace", root / "claude", root / "run")
        for folder in (folders.workspace, folders.claude, folders.run):
            folder.mkdir(parents=True, exist_ok=True)
            give(folder, owner or Owner(os.geteuid(), os.getegid()))
        shutil.copy(Path(__file__).parent / "played_wrapper.py", folders.workspace)  # all that a confined one can see
        launch = Launch(
            session_id=session_id,
            incarnation=incarnation,
            workspace=str(folders.workspace),
            claude_dir=str(folders.claude),
            claude_binary="/bin/true",
            claude_version="0",
            driver="test",
        )
        secrets = Secrets(token=SECRET, redis_username="u", redis_password=SECRET)
        return SessionSpec(session_id, incarnation, folders, launch, secrets)

    return make
