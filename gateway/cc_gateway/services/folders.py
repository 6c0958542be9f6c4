"""Where a session's things lie. Everything is made and owned by the gateway; no name comes from outside unchecked.

    <data>/sessions/<id>/workspace    ephemeral files, rw for the session
    <data>/sessions/<id>/claude       CLAUDE_CONFIG_DIR: the transcript lives here and outlives incarnations
    <data>/workspaces/<owner>/<name>  persistent files
    <run>/<id>                        sockets and launch files, read-only for the session

The run folder stands in the data folder, or in a short one under the temporary folder where the path of a socket would
be too long for the system (107 characters).
"""

import hashlib
import os
import secrets
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from cc_gateway.drivers.base import Folders, Owner
from cc_gateway.errors import StartupError
from cc_gateway.models import Session, Workspace
from cc_gateway.services.trees import remove_tree

LONGEST_SOCKET_FOLDER = 107 - len("/sesn_01234567890123456789012345/gateway.sock~")


class Layout:
    """The folders of one deployment."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.run_root = _run_root(data_dir)

    def prepare(self) -> None:
        """Make the roots, closed to others. Raises `StartupError` where that cannot be done."""
        try:
            for name in (
                self.data_dir,
                self.run_root,
                self.logs,
                self.data_dir / "sessions",
                self.data_dir / "workspaces",
            ):
                name.mkdir(parents=True, exist_ok=True, mode=0o700)
            facts = self.run_root.lstat()
            if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
                raise StartupError(
                    f"{self.run_root} is not a folder of ours alone: remove it", code="data_dir_unusable"
                )
            probe = self.data_dir / ".write-probe"
            probe.write_text("")
            probe.unlink()
        except OSError as error:
            raise StartupError(
                f"cannot use the data folder {self.data_dir}: {error.strerror}. Set CC_DATA_DIR to a folder that you may"
                " write",
                code="data_dir_unusable",
            ) from error

    def close(self) -> None:
        """Leave nothing in the temporary folder."""
        if not self.run_root.is_relative_to(self.data_dir):
            with suppress(OSError):  # something is still in it
                self.run_root.rmdir()

    @property
    def logs(self) -> Path:
        """Where the output of sessions is kept."""
        return self.data_dir / "logs"

    def of(self, session: Session) -> Folders:
        home = self._home(session)
        return Folders(
            workspace=self._workspace(session.owner, session.workspace) or home / "workspace",
            claude=home / "claude",
            run=self.run_root / session.id,
        )

    def create(self, session: Session, owner: Owner | None = None) -> Folders:
        """Make the session's folders, and give them to `owner` (default: ourselves)."""
        folders = self.of(session)
        for folder in (folders.workspace, folders.claude, folders.run):
            _make(folder, owner)
        return folders

    def new_clone_folder(self, session: Session, owner: Owner | None = None) -> Path:
        """Where a repository is cloned to, before it becomes the workspace: another one each time, as an older try may still
        be writing into its own."""
        folder = self._home(session) / f"clone-{secrets.token_hex(4)}"
        _make(folder, owner)
        return folder

    def drop_clone_folders(self, session: Session) -> None:
        """Remove what tries have left that came to nothing."""
        for folder in self._home(session).glob("clone-*"):
            remove_tree(folder)

    def drop_log(self, session_id: str) -> None:
        (self.logs / f"{session_id}.log").unlink(missing_ok=True)

    def _home(self, session: Session) -> Path:
        return self.data_dir / "sessions" / session.id

    def remove(self, session: Session) -> None:
        """Remove what belongs to the session alone; a persistent workspace stays."""
        for folder in (self._home(session), self.run_root / session.id):
            remove_tree(folder)
        self.drop_log(session.id)

    def _workspace(self, owner: str, workspace: Workspace) -> Path | None:
        if workspace.id is None:
            return None
        return self.data_dir / "workspaces" / hashlib.sha256(owner.encode()).hexdigest()[:16] / workspace.id


def _make(folder: Path, owner: Owner | None) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    give(folder, owner or Owner(os.geteuid(), os.getegid()))


def give(folder: Path, owner: Owner) -> None:
    """Make `owner` the owner of a folder and all that is in it, unless the folder is theirs. Links are not followed."""
    if folder.lstat().st_uid == owner.uid:
        return
    for _, folders, files, descriptor in os.fwalk(folder, follow_symlinks=False):
        for name in (*folders, *files):
            os.chown(name, owner.uid, owner.gid, dir_fd=descriptor, follow_symlinks=False)
    os.chown(folder, owner.uid, owner.gid, follow_symlinks=False)  # last: it says that the rest has been done


def _run_root(data_dir: Path) -> Path:
    root = data_dir / "run"
    if len(os.fsencode(root)) <= LONGEST_SOCKET_FOLDER:
        return root
    mark = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"cc-docker-{os.getuid()}-{mark}"
