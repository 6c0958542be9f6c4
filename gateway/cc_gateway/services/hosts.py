"""Where repositories may be cloned from: a session's owner must not reach what only this machine and its neighbours can."""

import asyncio
import ipaddress
import socket
from typing import Final
from urllib.parse import urlsplit

from cc_gateway.drivers.base import DriverError

LOOKUP_SECONDS: Final = 10.0
PORTS: Final = {"http": 80, "https": 443}


class Hosts:
    """`private`: whether addresses are allowed that are not public."""

    def __init__(self, *, private: bool) -> None:
        self._private = private

    async def check(self, url: str) -> str | None:
        """The host's addresses in curl's form, for whoever connects to take them and no others; None for no check.

        Raises `DriverError` (`clone_failed`) where the host is unknown, or one of its addresses is not public.
        """
        if self._private:
            return None
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
        except ValueError as error:
            raise _refused(f"{url} is no address of a repository: {error}") from error
        found = await self._addresses(host, port)
        if hidden := [address for address in found if not ipaddress.ip_address(address).is_global]:
            raise _refused(
                f"{host} is {hidden[0]}, which is no public address: the operator may allow it (CC_CLONE_PRIVATE)"
            )
        written = [f"[{address}]" if ":" in address else address for address in found]
        return f"{host}:{port}:{','.join(written)}"

    async def _addresses(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, TimeoutError) as error:
            raise _refused(f"the host {host} cannot be found: {error}") from error
        return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))


def _refused(message: str) -> DriverError:
    return DriverError(message, code="clone_failed", retryable=False)
