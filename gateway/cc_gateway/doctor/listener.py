"""Whether the public listener can have its address, or has it already."""

import contextlib
import errno
import socket
from typing import Final

import psutil

from cc_gateway.doctor.check import Check, Finding, failure, in_thread, ok
from cc_gateway.doctor.subject import Subject

MENDS: Final = {
    errno.EADDRINUSE: "choose another port: cc-docker serve --port 0 takes a free one (CC_PORT)",
    errno.EACCES: "ports below 1024 are for root: set CC_PORT=8080, and a proxy before it",
    errno.EADDRNOTAVAIL: "set CC_HOST to an address of this machine: ip address",
}


def checks(subject: Subject) -> list[Check]:
    return [Check("address", lambda: _address(subject))]


async def _address(subject: Subject) -> Finding:
    server = subject.settings.server
    gateway = await subject.gateway()
    if gateway and gateway.health:
        return ok(f"{gateway.url}, where the gateway answers")
    error = await in_thread(_try, server.host, server.port)
    if error is None:
        return ok(f"a free port of {server.host}" if server.port == 0 else f"{subject.local_url}, which is free")
    if error.errno == errno.EADDRINUSE:
        return await _taken(subject, gateway.pid if gateway else None)
    mend = MENDS.get(error.errno or 0, "set CC_HOST to an address of this machine, such as 127.0.0.1")
    return failure(f"{server.host}:{server.port}", f"it cannot be listened on: {error.strerror or error}", mend)


async def _taken(subject: Subject, ours: str | None) -> Finding:
    server = subject.settings.server
    holder = await in_thread(_listener_on, server.port)
    if holder and holder.partition(" ")[0] == ours:
        return ok(f"{server.host}:{server.port}, which the gateway has (pid {ours})")
    who = f"process {holder}" if holder else "another program"
    return failure(f"{server.host}:{server.port}", f"{who} listens there", MENDS[errno.EADDRINUSE])


def _try(host: str, port: int) -> OSError | None:
    """Bind, as `serve` does, and let go. It does not listen, so nobody can meet it."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return error
    return None


def _listener_on(port: int) -> str | None:
    """Process id and name of who listens on the port, where the system tells us."""
    with contextlib.suppress(psutil.Error, OSError):
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid:
                return f"{one.pid} ({psutil.Process(one.pid).name()})"
    return None
