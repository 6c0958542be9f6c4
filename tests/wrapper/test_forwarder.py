"""127.0.0.1 to the gateway's socket: requests are checked and given the token, answers come as they are."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import orjson
import pytest

from cc_wrapper.forwarder.head import BadRequestError, chunk_size, parse_head
from cc_wrapper.forwarder.server import Forwarder
from wrapper.harness import until

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Gateway:
    """A unix socket that keeps what it is sent."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.got = b""
        self.connections = 0
        self.answer: bytes = OK
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, str(self.socket))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError):
            while piece := await reader.read(65536):
                self.got += piece
                if self.got.endswith(b"END"):
                    writer.write(self.answer)
        writer.close()

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()


class Caller:
    """A raw HTTP client: what is sent is what is written here."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answer(self, size: int = len(OK)) -> bytes:
        async with asyncio.timeout(5):
            return await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        async with asyncio.timeout(5):
            return await self.reader.read()


@pytest.fixture
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("g") / "g.sock")
    await gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture
async def forwarder(gateway: Gateway) -> AsyncIterator[Forwarder]:
    async with Forwarder(gateway.socket, "TOKEN") as forwarder:
        yield forwarder


@pytest.fixture
async def caller(forwarder: Forwarder) -> AsyncIterator[Caller]:
    port = int(forwarder.endpoint.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    yield Caller(reader, writer)
    writer.close()


def request(forwarder: Forwarder, body: bytes = b"END", *fields: bytes, nonce: str | None = None) -> bytes:
    shown = forwarder.endpoint.nonce if nonce is None else nonce
    lines = [
        b"POST /v1/messages?beta=true HTTP/1.1",
        b"Host: x",
        b"authorization: Bearer " + shown.encode(),
        *(fields or [b"Content-Length: %d" % len(body)]),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


async def test_the_token_stands_in_the_place_of_what_was_shown(
    gateway: Gateway, forwarder: Forwarder, caller: Caller
) -> None:
    caller.writer.write(request(forwarder, b"END", b"Content-Length: 3", b"X-Api-Key: mine", b"X-Kept: yes"))
    assert await caller.answer() == OK
    head = gateway.got.partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert head[0] == b"POST /v1/messages?beta=true HTTP/1.1"
    assert sorted(head[1:]) == sorted(
        [b"Host: x", b"Content-Length: 3", b"X-Kept: yes", b"Authorization: Bearer TOKEN"]
    )
    assert forwarder.endpoint.nonce.encode() not in gateway.got


async def test_the_nonce_counts_as_an_api_key_too(forwarder: Forwarder, caller: Caller) -> None:
    key = b"x-api-key: " + forwarder.endpoint.nonce.encode()
    caller.writer.write(b"GET / HTTP/1.1\r\nContent-Length: 3\r\n" + key + b"\r\n\r\nEND")
    assert await caller.answer() == OK


@pytest.mark.parametrize("nonce", ["", "wrong", "TOKEN"])
async def test_who_does_not_know_the_nonce_gets_401_and_reaches_nothing(
    gateway: Gateway, forwarder: Forwarder, caller: Caller, nonce: str
) -> None:
    caller.writer.write(request(forwarder, nonce=nonce))
    answer = await caller.rest()
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert gateway.connections == 0


async def test_several_requests_share_a_connection_and_each_is_checked(
    gateway: Gateway, forwarder: Forwarder, caller: Caller
) -> None:
    for _ in range(3):
        caller.writer.write(request(forwarder))
        assert await caller.answer() == OK
    assert (gateway.connections, gateway.got.count(b"Bearer TOKEN")) == (1, 3)
    caller.writer.write(request(forwarder, nonce="wrong"))
    assert await caller.rest() == b""
    assert gateway.got.count(b"POST") == 3


async def test_a_chunked_body_arrives_as_it_is_and_the_next_request_is_found(
    gateway: Gateway, forwarder: Forwarder, caller: Caller
) -> None:
    body = b"5;x=y\r\nhello\r\n3\r\n\r\n\r\r\n0\r\nTrailer: t\r\n\r\n"
    caller.writer.write(request(forwarder, body, b"Transfer-Encoding: chunked") + request(forwarder))
    assert await caller.answer() == OK
    assert body in gateway.got
    assert gateway.got.count(b"Bearer TOKEN") == 2


async def test_a_request_in_single_bytes_is_understood(gateway: Gateway, forwarder: Forwarder, caller: Caller) -> None:
    for byte in request(forwarder):
        caller.writer.write(bytes([byte]))
        await caller.writer.drain()
    assert await caller.answer() == OK


async def test_megabytes_go_through_both_ways(gateway: Gateway, forwarder: Forwarder, caller: Caller) -> None:
    gateway.answer = b"y" * 5_000_000
    caller.writer.write(request(forwarder, b"x" * 5_000_000 + b"END"))
    assert await caller.answer(5_000_000) == gateway.answer
    assert gateway.got.endswith(b"x" * 5_000_000 + b"END")


async def test_a_gateway_that_is_away_is_a_503_that_the_cli_understands(
    gateway: Gateway, forwarder: Forwarder, caller: Caller
) -> None:
    gateway.stop()
    gateway.socket.unlink()
    caller.writer.write(request(forwarder))
    head, _, body = (await caller.rest()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert orjson.loads(body)["error"]["type"] == "api_error"


async def test_the_end_of_the_gateways_answer_ends_the_connection(
    gateway: Gateway, forwarder: Forwarder, caller: Caller
) -> None:
    caller.writer.write(request(forwarder, b"not yet"))
    await until(lambda: gateway.got.endswith(b"not yet"), 5)
    caller.writer.write_eof()
    assert await caller.rest() == b""


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/2\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nName : spaced\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\nAuthorization: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\rAuthorization: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n folded: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer Encoding: chunked\r\n\r\n",
        b"GET /\nAuthorization:c HTTP/1.1\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_could_be_read_in_two_ways_is_refused(caller: Caller, gateway: Gateway, raw: bytes) -> None:
    with pytest.raises(BadRequestError):
        parse_head(raw)
    caller.writer.write(raw)
    assert (await caller.rest()).startswith(b"HTTP/1.1 400 ")
    assert gateway.connections == 0


async def test_a_head_without_end_is_refused(caller: Caller) -> None:
    caller.writer.write(b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000)
    with contextlib.suppress(ConnectionError):
        assert (await caller.rest()).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("line", [b"\r\n", b"x\r\n", b"-1\r\n", b"+1\r\n", b"1" * 13 + b"\r\n"])
def test_what_is_no_chunk_size_is_refused(line: bytes) -> None:
    with pytest.raises(BadRequestError):
        chunk_size(line)
    assert chunk_size(b"1f;a=b\r\n") == 31
