"""Serves git repositories over plain HTTP, from a folder: what `git clone` needs, and nothing to install."""

import functools
import http.server
import socket
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        """Files; and what begins with /redirect/ is elsewhere."""
        if not self.path.startswith("/redirect/"):
            super().do_GET()
            return
        self.send_response(302)
        self.send_header("Location", self.path.removeprefix("/redirect"))
        self.end_headers()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


@contextmanager
def serve(folder: Path, address: str) -> Iterator[str]:
    """The address of a server of this folder."""
    with _Server((address, 0), functools.partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"http://{address}:{server.server_port}"
        server.shutdown()
        thread.join(10)


@contextmanager
def serve_nothing(address: str) -> Iterator[tuple[str, Callable[[], Awaitable[bool]]]]:
    """The address of a server that never answers, and whether anybody has connected to it."""
    with socket.create_server((address, 0)) as listener:
        listener.setblocking(False)
        taken: list[socket.socket] = []

        async def connected() -> bool:
            with suppress(BlockingIOError):
                taken.append(listener.accept()[0])
            return bool(taken)

        yield f"http://{address}:{listener.getsockname()[1]}", connected
        for connection in taken:
            connection.close()


def make_repository(folder: Path, **branches: dict[str, str]) -> None:
    """A bare repository that is ready to be served; each branch has these files (`a__b` in a name of a file is `a/b`)."""
    git("init", "--quiet", "--bare", "--initial-branch", next(iter(branches)), str(folder))
    work = folder.with_name(folder.name + ".work")
    for branch, files in branches.items():
        git("init", "--quiet", "--initial-branch", branch, str(work))
        for name, text in files.items():
            path = work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        git("-C", str(work), "add", "--all")
        git("-C", str(work), "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--message", branch)
        git("-C", str(work), "push", "--quiet", str(folder), branch)
        subprocess.run(["rm", "-rf", str(work)], check=True)
    git("-C", str(folder), "update-server-info")


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
