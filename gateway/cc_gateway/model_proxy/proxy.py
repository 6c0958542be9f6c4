"""The model proxy: an ASGI application on the internal listener.

It lets through the message endpoints and nothing else, checks the session's token on every request, takes off what the
session sent as a key and puts the real one in, and passes the answer through as it streams. Before the first byte of an
answer reaches the session, it is on record that the model has heard of the turn: that is what forbids to run it twice.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson
import structlog
from multidict import CIMultiDict

from cc_gateway.auth import SessionClaim, Tokens
from cc_gateway.errors import Unauthenticated, Unavailable
from cc_gateway.internal import SESSION_KEY, Receive, Scope, Send
from cc_gateway.model_proxy.upstream import Upstream

log = structlog.get_logger(__name__)

PATHS: Final = {"/v1/messages": "POST", "/v1/messages/count_tokens": "POST"}
WARM_UP: Final = ("/", "/api/hello")  # the CLI opens its connection with one of these
REQUEST_HEADERS: Final = frozenset(
    {
        b"accept",
        b"accept-encoding",
        b"anthropic-beta",
        b"anthropic-version",
        b"content-type",
        b"user-agent",
        b"x-claude-code-agent-id",
        b"x-claude-code-session-id",
    }
)
ANSWER_HEADERS: Final = frozenset(
    {"content-type", "content-encoding", "request-id", "retry-after", "x-should-retry", "cache-control"}
)
ANSWER_PREFIX: Final = "anthropic-ratelimit-"
MAX_BODY: Final = 64 * 1024 * 1024

VOUCHED_SECONDS: Final = 60.0
MAX_VOUCHED: Final = 10_000

Admit = Callable[[str, int], Awaitable[bool | None]]
NoteRequest = Callable[[str, int], Awaitable[None]]


class _Refused(Exception):
    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


class ModelProxy:
    """One for the gateway; `scope[SESSION_KEY]` says whose listener a request came in on."""

    def __init__(
        self,
        upstream: Upstream,
        tokens: Tokens,
        *,
        admit: Admit,
        note_request: NoteRequest,
        connect_timeout: float,
        read_timeout: float,
    ) -> None:
        """
        Args:
            admit: whether a request of this incarnation of this session is the first of the running turn; None where
                that is not the incarnation that lives now.
            note_request: commits that the model is being asked on behalf of the running turn.
        """
        self._upstream = upstream
        self._tokens = tokens
        self._admit = admit
        self._note_request = note_request
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout, sock_read=read_timeout)
        self._client: aiohttp.ClientSession | None = None
        self._vouched_until: dict[SessionClaim, float] = {}

    async def open(self) -> None:
        socket = self._upstream.unix_socket
        connector: aiohttp.BaseConnector = (
            aiohttp.UnixConnector(str(socket), limit=0)
            if socket
            else aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
        )
        self._client = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),  # one client serves all sessions
            timeout=self._timeout,
            auto_decompress=False,
            proxy=None if socket else _environment_proxy(self._upstream.base_url),
            read_bufsize=2**20,
        )

    async def close(self) -> None:
        if self._client:
            await self._client.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            if scope["method"] == "HEAD" and scope["path"] in WARM_UP:
                await _answer(send, 200, b"")
                return
            if PATHS.get(scope["path"]) != scope["method"]:
                raise _Refused(404, "not_found_error", f"{scope['method']} {scope['path']} is not served here")
            claim = self._check_token(scope)
            vouching = asyncio.ensure_future(self._vouch(claim))
            try:
                if time.monotonic() > self._vouched_until.get(claim, 0.0):
                    await vouching
                await self._forward(scope, receive, send, vouching)
            finally:
                vouching.cancel()
        except _Refused as refusal:
            await _answer(send, refusal.status, _error(refusal.kind, str(refusal)))
        except Unavailable as away:  # the record cannot vouch for the session now: the CLI asks again
            await _answer(send, 503, _error("api_error", away.message))

    def _check_token(self, scope: Scope) -> SessionClaim:
        """Whose token this is. It must be of the session whose listener it came in on."""
        bearer = next((value for name, value in scope["headers"] if name == b"authorization"), b"").decode("latin-1")
        try:
            claim = self._tokens.verify_session(bearer.removeprefix("Bearer "))
        except Unauthenticated as error:
            raise _Refused(401, "authentication_error", error.message) from None
        if claim.session_id != scope[SESSION_KEY]:
            raise _Refused(403, "permission_error", "this token is not of this session")
        return claim

    async def _vouch(self, claim: SessionClaim) -> None:
        """Check against the record that this incarnation lives, and put its turn's first request on record.

        Nothing of an answer is passed on before this is done. A request waits for it only where none of its incarnation has
        been vouched for of late: the model takes longer than the record.
        """
        is_first = await self._admit(claim.session_id, claim.incarnation)
        if is_first is None:
            self._vouched_until.pop(claim, None)
            raise _Refused(403, "permission_error", "this token is not good for this session now")
        if is_first:
            await self._note_request(claim.session_id, claim.incarnation)
        if len(self._vouched_until) >= MAX_VOUCHED:
            self._vouched_until.clear()
        self._vouched_until[claim] = time.monotonic() + VOUCHED_SECONDS

    async def _forward(self, scope: Scope, receive: Receive, send: Send, vouching: asyncio.Future[None]) -> None:
        """Ask the model for as long as the session listens."""
        body = await _read_body(receive)
        asking = asyncio.ensure_future(self._ask(scope, body, send, vouching))
        hung_up = asyncio.ensure_future(_hang_up(receive))
        try:
            either: set[asyncio.Future[None]] = {asking, hung_up}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (asking, hung_up):
                if not task.done():
                    task.cancel()
        if asking.done() and not asking.cancelled():
            asking.result()

    async def _ask(self, scope: Scope, body: bytes, send: Send, vouching: asyncio.Future[None]) -> None:
        assert self._client is not None
        url = self._upstream.base_url + scope["path"]
        started = False
        try:
            request = self._client.post(url, data=body, headers=self._headers(scope), allow_redirects=False)
            async with request as response:
                await vouching  # before any of the answer can have an effect
                started = True
                await _stream(response, send)
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("model_unreachable", upstream=self._upstream.name, error=repr(error))
            if started:  # the answer breaks off: the server cuts the connection, and the CLI asks again
                raise
            why = str(error) or "no answer in time"
            message = f"the model ({self._upstream.name}) cannot be reached: {why}"
            raise _Refused(502, "api_error", message) from error

    def _headers(self, scope: Scope) -> CIMultiDict[str]:
        headers = CIMultiDict(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in scope["headers"]
            if name in REQUEST_HEADERS
        )
        if self._upstream.betas:
            given = [headers["anthropic-beta"]] if "anthropic-beta" in headers else []
            headers["anthropic-beta"] = ",".join([*given, *self._upstream.betas])
        headers.update(self._upstream.headers)
        return headers


def _environment_proxy(url: str) -> str | None:
    """The proxy that the environment names for this address, looked up once and not with every request."""
    parts = urlsplit(url)
    if proxy_bypass(parts.netloc):
        return None
    return getproxies().get(parts.scheme)


async def _read_body(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Refused(400, "invalid_request_error", "the request ended early")
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > MAX_BODY:
            raise _Refused(413, "request_too_large", f"a request may have {MAX_BODY} bytes")
        if not message.get("more_body"):
            return b"".join(chunks)


async def _stream(response: aiohttp.ClientResponse, send: Send) -> None:
    """Pass the answer through as it comes."""
    headers = [
        (name.lower().encode(), value.encode("latin-1"))
        for name, value in response.headers.items()
        if name.lower() in ANSWER_HEADERS or name.lower().startswith(ANSWER_PREFIX)
    ]
    if response.status == 401:  # the operator's key is wrong: trying again for three minutes does not mend it
        headers = [(name, value) for name, value in headers if name != b"x-should-retry"]
        headers.append((b"x-should-retry", b"false"))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    while chunk := await response.content.readany():
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _error(kind: str, message: str) -> bytes:
    return orjson.dumps({"type": "error", "error": {"type": kind, "message": message}})
