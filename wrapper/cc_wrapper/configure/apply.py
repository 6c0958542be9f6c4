"""Writes the generated files: the user level anew, the workspace only where nothing is."""

import logging
from pathlib import Path

from cc_protocol.launch import Launch
from cc_wrapper.configure.files import STALE, claude_files, workspace_files
from cc_wrapper.configure.folder import Folder
from cc_wrapper.configure.prompt import MEMORY_FILES, MEMORY_LIMIT
from cc_wrapper.errors import ConfigurationError

log = logging.getLogger(__name__)


def configure(launch: Launch) -> None:
    """Generate everything for this incarnation; raises `ConfigurationError` if `claude_dir` cannot be written."""
    workspace, claude_dir = Folder(Path(launch.workspace)), Folder(Path(launch.claude_dir))
    memories = read_memories(workspace)
    try:
        for path in STALE:
            claude_dir.remove(path)
        for path, text in claude_files(launch, memories).items():
            claude_dir.replace(path, text)
    except OSError as error:
        raise ConfigurationError(f"cannot write {launch.claude_dir}: {error.strerror}") from None
    shown = [path for path, text in workspace_files(launch).items() if workspace.create(path, text)]
    log.info("configured", extra={"workspace_files": shown, "memories": list(memories)})


def read_memories(workspace: Folder) -> dict[str, str]:
    """The workspace's own CLAUDE.md files."""
    found = {path: workspace.read(path, limit=MEMORY_LIMIT) for path in MEMORY_FILES}
    return {path: text for path, text in found.items() if text}
