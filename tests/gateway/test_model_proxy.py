"""The model proxy: the key goes in on the way, nothing else gets through, and the answer streams."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from cc_gateway.auth import SessionClaim, Tokens
from cc_gateway.errors import Unavailable
from cc_gateway.internal import SessionDoors
from cc_gateway.model_proxy.proxy import ModelProxy
from cc_gateway.model_proxy.upstream import ANTHROPIC_URL, Upstream, choose_upstream
from cc_gateway.settings import AuthSettings, ModelSettings
from cc_protocol.ids import SESSION, new_id

KEY = "the-operators-key"
ME, OTHER = new_id(SESSION), new_id(SESSION)


class Model:
    """A model server that remembers what it was asked and answers as it is told."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.answer: Callable[[Request], Awaitable[Response]] = self._plain
        self.gone = asyncio.Event()

    async def __call__(self, request: Request) -> Response:
        self.requests.append((dict(request.headers), await request.body()))
        return await self.answer(request)

    async def _plain(self, _request: Request) -> Response:
        return JSONResponse({"ok": True}, headers={"request-id": "r1", "x-internal": "hidden", "set-cookie": "a=b"})


@pytest.fixture
async def model() -> AsyncIterator[Model]:
    model = Model()

    async def endpoint(request: Request) -> Response:  # an object would be taken for an application
        return await model(request)

    app = Starlette(routes=[Route("/{path:path}", endpoint, methods=["GET", "POST", "HEAD", "PUT"])])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    model.port = server.servers[0].sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    yield model
    server.should_exit = True
    await task


class Record:
    """What the proxy is told, and tells, of incarnations."""

    def __init__(self) -> None:
        self.current = 1
        self.noted = 0
        self.away = False
        self.may_note = asyncio.Event()
        self.may_note.set()

    async def admit(self, session_id: str, incarnation: int) -> bool | None:
        if self.away:
            raise Unavailable("the database is away", retry_after=2)
        return self.noted == 0 if session_id == ME and incarnation == self.current else None

    async def note(self, session_id: str, incarnation: int) -> None:
        await self.may_note.wait()
        self.noted += 1


@pytest.fixture
def record() -> Record:
    return Record()


@pytest.fixture
def tokens() -> Tokens:
    return Tokens(AuthSettings(_env_file=None), "s" * 48)  # type: ignore[call-arg]


@pytest.fixture
async def door(model: Model, record: Record, tokens: Tokens, short_dir: Path) -> AsyncIterator[Path]:
    """The folder with the session's socket."""
    upstream = Upstream("stub", f"http://127.0.0.1:{model.port}", {"x-api-key": KEY}, betas=("extra-beta",))  # type: ignore[attr-defined]
    proxy = ModelProxy(
        upstream, tokens, admit=record.admit, note_request=record.note, connect_timeout=2, read_timeout=2
    )
    await proxy.open()

    async def no_redis() -> Any:
        raise ConnectionRefusedError

    doors = SessionDoors(proxy, no_redis)
    folder = short_dir / new_id("d")
    folder.mkdir()
    await doors.open(ME, folder)
    yield folder
    await doors.close_all()
    await proxy.close()


@pytest.fixture
async def session(door: Path, tokens: Tokens) -> AsyncIterator[httpx.AsyncClient]:
    """A client on the session's own socket, with its token."""
    transport = httpx.AsyncHTTPTransport(uds=str(door / "gateway.sock"))
    token = tokens.mint_session(SessionClaim(ME, 1))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://gateway", headers={"authorization": f"Bearer {token}"}
    ) as client:
        yield client


async def test_the_key_is_put_in_and_what_the_session_sent_as_one_is_taken_off(
    session: httpx.AsyncClient, model: Model
) -> None:
    answer = await session.post(
        "/v1/messages?beta=true",
        content=b'{"model": "m"}',
        headers={"x-api-key": "mine", "anthropic-beta": "a,b", "cookie": "c", "x-forwarded-for": "1.2.3.4"},
    )
    assert answer.json() == {"ok": True}
    headers, body = model.requests[0]
    assert headers["x-api-key"] == KEY
    assert headers["anthropic-beta"] == "a,b,extra-beta"
    assert body == b'{"model": "m"}'
    assert not {"authorization", "cookie", "x-forwarded-for"} & headers.keys()


async def test_of_the_answers_headers_only_harmless_ones_come_back(session: httpx.AsyncClient) -> None:
    answer = await session.post("/v1/messages", content=b"{}")
    assert answer.headers["request-id"] == "r1"
    assert not {"x-internal", "set-cookie"} & answer.headers.keys()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/messages"),
        ("POST", "/v1/files"),
        ("POST", "/v1/messages/batches"),
        ("GET", "/v1/models"),
        ("POST", "/v1/messages/../files"),
        ("POST", "/v1//messages"),
        ("POST", "/api/v1/sessions"),
        ("PUT", "/v1/messages"),
        ("GET", "http://169.254.169.254/latest/meta-data"),
    ],
)
async def test_nothing_but_the_message_endpoints_gets_through(
    method: str, path: str, session: httpx.AsyncClient, model: Model
) -> None:
    answer = await session.request(method, path, content=b"{}")
    assert answer.status_code == 404
    assert model.requests == []


async def test_counting_tokens_and_warming_up_work(session: httpx.AsyncClient, model: Model) -> None:
    assert (await session.post("/v1/messages/count_tokens", content=b"{}")).status_code == 200
    assert len(model.requests) == 1
    assert (await session.head("/api/hello")).status_code == 200
    assert len(model.requests) == 1


async def test_a_token_that_is_not_this_sessions_is_refused(
    session: httpx.AsyncClient, tokens: Tokens, model: Model, record: Record
) -> None:
    wrong = {
        "no token": {"authorization": ""},
        "a user's token": {"authorization": f"Bearer {tokens.mint_user('somebody')}"},
        "another session's": {"authorization": f"Bearer {tokens.mint_session(SessionClaim(OTHER, 1))}"},
        "an older incarnation's": {"authorization": f"Bearer {tokens.mint_session(SessionClaim(ME, 0))}"},
    }
    for what, headers in wrong.items():
        answer = await session.post("/v1/messages", content=b"{}", headers=headers)
        assert answer.status_code in (401, 403), what
    record.current = 2
    assert (await session.post("/v1/messages", content=b"{}")).status_code == 403
    assert model.requests == []
    record.current = 1
    assert (await session.post("/v1/messages", content=b"{}")).status_code == 200  # positive control


async def test_the_answer_streams_as_it_comes(session: httpx.AsyncClient, model: Model) -> None:
    release = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"event: a\n\n"
        await release.wait()
        yield b"event: b\n\n"

    async def answer(_request: Request) -> Response:
        return StreamingResponse(chunks(), media_type="text/event-stream")

    model.answer = answer
    async with asyncio.timeout(5), session.stream("POST", "/v1/messages", content=b"{}") as response:
        parts = response.aiter_raw()
        assert await anext(parts) == b"event: a\n\n"
        release.set()
        assert await anext(parts) == b"event: b\n\n"


async def test_nothing_of_an_answer_is_seen_before_the_request_is_on_record(
    session: httpx.AsyncClient, record: Record, model: Model
) -> None:
    await session.post("/v1/messages", content=b"{}")  # vouched for: the next is asked and checked side by side
    model.requests.clear()
    record.noted = 0
    record.may_note.clear()
    asked = asyncio.create_task(session.post("/v1/messages", content=b"{}"))
    async with asyncio.timeout(5):
        while not model.requests:
            await asyncio.sleep(0.01)
        done, _ = await asyncio.wait({asked}, timeout=0.2)
        assert not done
        record.may_note.set()
        assert (await asked).status_code == 200
    assert record.noted == 1


@pytest.mark.parametrize("vouched_before", [False, True])
async def test_while_the_record_is_away_a_request_is_told_to_come_again(
    session: httpx.AsyncClient, record: Record, vouched_before: bool
) -> None:
    if vouched_before:
        assert (await session.post("/v1/messages", json={})).status_code == 200
    record.away = True
    answer = await session.post("/v1/messages", json={})
    assert answer.status_code == 503
    assert answer.json()["error"]["type"] == "api_error"
    record.away = False
    assert (await session.post("/v1/messages", json={})).status_code == 200


async def test_a_wrong_key_of_the_operator_is_not_tried_again_for_minutes(
    session: httpx.AsyncClient, model: Model
) -> None:
    async def answer(_request: Request) -> Response:
        return JSONResponse({"type": "error"}, 401, headers={"x-should-retry": "true"})

    model.answer = answer
    response = await session.post("/v1/messages", content=b"{}")
    assert response.status_code == 401
    assert response.headers["x-should-retry"] == "false"


async def test_the_request_to_the_model_ends_when_the_session_hangs_up(
    session: httpx.AsyncClient, model: Model
) -> None:
    gone = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b": ping\n\n"
                await asyncio.sleep(0.01)
        finally:
            gone.set()

    async def answer(_request: Request) -> Response:
        return StreamingResponse(endless(), media_type="text/event-stream")

    model.answer = answer
    async with session.stream("POST", "/v1/messages", content=b"{}") as response:
        await anext(response.aiter_raw())
    async with asyncio.timeout(5):
        await gone.wait()


async def test_a_model_that_is_silent_or_away_gives_a_502_that_says_so(
    session: httpx.AsyncClient, model: Model
) -> None:
    async def silent(_request: Request) -> Response:
        await asyncio.sleep(4)  # the model's, not the test's: over the read timeout of 2 s
        return Response()

    model.answer = silent
    response = await session.post("/v1/messages", content=b"{}", timeout=10)
    assert response.status_code == 502
    assert response.json()["error"]["type"] == "api_error"
    assert "stub" in response.json()["error"]["message"]
    assert KEY not in response.text


def model_settings(**values: Any) -> ModelSettings:
    return ModelSettings(_env_file=None, **values)  # type: ignore[call-arg]


def test_the_model_is_the_first_that_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "CC_MODEL_URL", "CC_SCRIPTED"):
        monkeypatch.delenv(name, raising=False)
    socket = Path("/s")
    assert choose_upstream(model_settings(), socket).scripted
    monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", "o")
    oauth = choose_upstream(model_settings(), socket)
    assert (oauth.base_url, oauth.headers, oauth.betas) == (
        ANTHROPIC_URL,
        {"authorization": "Bearer o"},
        ("oauth-2025-04-20",),
    )
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    assert choose_upstream(model_settings(), socket).headers == {"x-api-key": "k"}
    monkeypatch.setenv("CC_MODEL_URL", "http://localhost:11434/")
    local = choose_upstream(model_settings(), socket)
    assert (local.base_url, local.headers) == ("http://localhost:11434", {})
    monkeypatch.setenv("CC_SCRIPTED", "1")
    assert choose_upstream(model_settings(), socket).scripted
