"""Git workspaces: cloned before the first start, in a place without sockets, each once and only a few at a time.

A clone lands in a folder of its own and becomes the workspace by one rename: half of one is never taken for a whole.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from cc_gateway.drivers.base import Clone, SessionDriver
from cc_gateway.models import Session
from cc_gateway.services.folders import Layout
from cc_gateway.services.hosts import Hosts

log = structlog.get_logger(__name__)

CLONES_AT_ONCE: Final = 4


class Cloning:
    """Knows which clones are under way. They end with the gateway, and are begun anew by the next one."""

    def __init__(self, driver: SessionDriver, layout: Layout, timeout: float, hosts: Hosts) -> None:
        self._hosts = hosts
        self._driver = driver
        self._layout = layout
        self._timeout = timeout
        self._slots = asyncio.Semaphore(CLONES_AT_ONCE)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.wake: Callable[[str], None] = lambda session_id: None

    def needed(self, session: Session) -> bool:
        """Whether the session cannot start before its repository has been cloned."""
        return session.workspace.type == "git" and not self._layout.of(session).workspace.exists()

    async def advance(self, session: Session) -> bool:
        """Begin the clone, or look how it went. True once it is under way for the first time.

        Raises:
            DriverError: what the clone ended with. The next call begins another.
        """
        task = self._tasks.get(session.id)
        if task is None:
            self._tasks[session.id] = task = asyncio.create_task(self._clone(session), name=f"clone-{session.id}")
            task.add_done_callback(lambda _: self.wake(session.id))
            return True
        if task.done():
            del self._tasks[session.id]
            task.result()
        return False

    async def cancel(self, session_id: str) -> None:
        """End it, if it is under way."""
        if task := self._tasks.pop(session_id, None):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        for session_id in list(self._tasks):
            await self.cancel(session_id)

    async def _clone(self, session: Session) -> None:
        workspace = session.workspace
        assert workspace.git_repo
        async with self._slots:
            resolve = await self._hosts.check(workspace.git_repo)
            folder = await asyncio.to_thread(self._layout.new_clone_folder, session, self._driver.owner)
            order = Clone(session.id, workspace.git_repo, workspace.git_branch, folder, self._timeout, resolve)
            await self._driver.clone(order)
            folder.rename(self._layout.of(session).workspace)
            await asyncio.to_thread(self._layout.drop_clone_folders, session)
        log.info("workspace_cloned", session_id=session.id)
