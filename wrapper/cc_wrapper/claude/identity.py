"""Which conversation `claude` continues: its session id and its transcript.

The id is kept in a small file in `claude_dir`, since `/clear` changes it. That folder is the agent's to write: what is
read is checked to be a UUID, and neither followed nor believed further.
"""

import logging
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cc_wrapper.configure.folder import Folder

log = logging.getLogger(__name__)

_ID_FILE: Final = "cc-docker/session-id"
_NAMESPACE: Final = uuid.UUID("6f0b7d34-52d1-5c0e-9b53-2f1f3f0f7a11")


@dataclass(frozen=True, slots=True)
class Conversation:
    """The conversation to start with, and what to resume it by where it exists."""

    claude_id: str
    resume: str | None

    @property
    def arguments(self) -> list[str]:
        return ["--resume", self.resume] if self.resume else ["--session-id", self.claude_id]


class Identity:
    def __init__(self, session_id: str, claude_dir: str) -> None:
        self._folder = Folder(Path(claude_dir))
        self._projects = Path(claude_dir, "projects")
        self._first = str(uuid.uuid5(_NAMESPACE, session_id))
        self._current: str | None = None

    @property
    def claude_id(self) -> str:
        if self._current is None:
            kept = self._folder.read(_ID_FILE, limit=64)
            self._current = as_uuid(kept.strip() if kept else "") or self._first
        return self._current

    def conversation(self) -> Conversation:
        """What to start with: the transcript decides between `--resume` and `--session-id`."""
        found = next(iter(sorted(self._projects.glob(f"*/{self.claude_id}.jsonl"))), None)
        return Conversation(self.claude_id, None if found is None else str(found))

    def adopt(self, claude_id: str) -> None:
        """`claude` goes by another id now."""
        checked = as_uuid(claude_id)
        if checked is not None and checked != self.claude_id:
            self._current = checked
            try:
                self._folder.replace(_ID_FILE, checked + "\n")
            except OSError as error:  # the disk is full: this incarnation goes on with what it knows
                log.error("the conversation's id is not kept", extra={"reason": error.strerror})

    def renew(self) -> None:
        """The conversation cannot be continued: the next one gets an id of its own."""
        self.adopt(str(uuid.uuid4()))


def as_uuid(value: str) -> str | None:
    try:
        return str(uuid.UUID(value))
    except ValueError:
        return None
