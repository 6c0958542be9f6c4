"""First byte of a model's answer through the proxy, against the same request sent to the model itself.

Both ask the same scripted model with the same body, of the size that `claude` sends, over connections that stay open, in
turn. Ours goes in where the session's own requests do: at its socket, with its token.
"""

import asyncio
import socket
import time
from urllib.parse import urlsplit

import orjson

from bench.figures import Aim, Row, Summary
from bench.sessions import session
from bench.world import World, say
from cc_protocol.launch import GATEWAY_SOCKET, SECRETS_FILE, Secrets

WARM_UP = 10
BODY_BYTES = 48 * 1024
SECONDS = 30.0


async def measure(world: World) -> list[Row]:
    gateway = await world.gateway()
    rounds = world.options.times(20, 400)
    async with session(gateway) as (_, session_id):
        run = gateway.data_dir / "run" / session_id
        token = Secrets.model_validate_json((run / SECRETS_FILE).read_bytes()).token
        say(f"model proxy: {rounds} requests each way")
        proxied, direct = await asyncio.to_thread(_compare, str(run / GATEWAY_SOCKET), token, world.model_url, rounds)
    ours, bare = Summary.of(proxied), Summary.of(direct)
    return [
        Row(
            "model_proxy",
            "model request, first byte through the proxy",
            "ms",
            ours.median,
            bare.median,
            "the same request, sent to the model",
            Aim("added", 2, "ms"),
            {"ours_ms": ours, "bare_ms": bare},
        )
    ]


def _compare(door: str, token: str, model_url: str, rounds: int) -> tuple[list[float], list[float]]:
    address = urlsplit(model_url)
    assert address.hostname
    assert address.port
    with (
        _connected(socket.AF_UNIX, door) as ours,
        _connected(socket.AF_INET, (address.hostname, address.port)) as bare,
    ):
        proxied: list[float] = []
        direct: list[float] = []
        for done in range(WARM_UP + rounds):
            sides = [(ours, proxied), (bare, direct)]
            for connection, taken in sides if done % 2 else reversed(sides):
                milliseconds = _first_byte(connection, _request(token))
                if done >= WARM_UP:
                    taken.append(milliseconds)
    return proxied, direct


def _connected(family: socket.AddressFamily, address: str | tuple[str, int]) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.settimeout(SECONDS)
    connection.connect(address)
    return connection


def _request(token: str) -> bytes:
    asked = {
        "model": "claude-opus-5-5",
        "max_tokens": 1000,
        "stream": True,
        "system": "x" * BODY_BYTES,
        "messages": [{"role": "user", "content": "hello"}],
    }
    body = orjson.dumps(asked)
    head = (
        "POST /v1/messages?beta=true HTTP/1.1\r\nHost: model\r\nContent-Type: application/json\r\n"
        f"anthropic-version: 2023-06-01\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _first_byte(connection: socket.socket, request: bytes) -> float:
    """Milliseconds until the first byte of the answer's body; the rest of it is read away."""
    begun = time.monotonic()
    connection.sendall(request)
    taken: float | None = None
    answer = b""
    while not answer.endswith(b"0\r\n\r\n"):
        piece = connection.recv(65536)
        if not piece:
            raise RuntimeError(f"the connection ended: {answer[:300]!r}")
        answer += piece
        head, found, body = answer.partition(b"\r\n\r\n")
        if found and b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise RuntimeError(f"refused: {answer[:300]!r}")
        if taken is None and body:
            taken = time.monotonic() - begun
    assert taken is not None
    return taken * 1000
