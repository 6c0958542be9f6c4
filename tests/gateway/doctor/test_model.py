"""Which model would answer: reached, and its key tried, without a request that costs; and what is wrong where it is not."""

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from cc_gateway.doctor.check import Status
from cc_gateway.model_proxy.scripted import create_scripted_app
from gateway.doctor.looking import Look, everything, of, words

KEY = "canary-key-of-the-operator"


@dataclass
class Stub:
    """A server that gives one answer, and notes what it was asked."""

    url: str = ""
    status: int = 400
    body: str = '{"type":"error","error":{"type":"invalid_request_error","message":"model: Field required"}}'
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            asked = {"method": self.command, "path": self.path, "body": body}
            stub.asked.append(asked | {"headers": {name.lower(): value for name, value in self.headers.items()}})
            self.send_response(stub.status)
            for name, value in stub.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(stub.body.encode())))
            self.end_headers()
            self.wfile.write(stub.body.encode())

        do_GET = do_POST = _answer

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        stub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield stub
        server.shutdown()
        thread.join()


@pytest.fixture
def scripted_server() -> Iterator[str]:
    """The scripted model as a server of its own: a real Messages API."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_scripted_app(), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


async def test_without_a_key_the_scripted_model_is_noted(look: Look) -> None:
    result = of(await look(), "model")
    assert result.status is Status.NOTE
    assert "no key and no CC_MODEL_URL is set" in words(result)


async def test_a_scenario_that_cannot_be_played_is_a_failure(look: Look, place: Path) -> None:
    (place / "scenario.json").write_text("{")
    result = of(await look(CC_SCENARIO_FILE=str(place / "scenario.json")), "model")
    assert result.status is Status.FAILURE
    assert "CC_SCENARIO_FILE" in words(result)


async def test_a_messages_api_is_well(look: Look, scripted_server: str) -> None:
    examination = await look(CC_MODEL_URL=scripted_server)
    assert of(examination, "model").status is Status.OK
    assert words(of(examination, "model")).startswith(f"model server, {scripted_server}: reached in ")
    assert examination.verdict.endswith(f"and model server, {scripted_server}")


async def test_the_key_is_tried_by_a_request_that_cannot_cost_and_is_never_shown(look: Look, stub: Stub) -> None:
    examination = await look(CC_MODEL_URL=stub.url, CC_MODEL_KEY=KEY)
    assert words(of(examination, "model")).endswith(", takes the key")
    (asked,) = stub.asked
    assert (asked["method"], asked["path"], json.loads(asked["body"])) == ("POST", "/v1/messages", {})
    assert asked["headers"]["x-api-key"] == KEY
    assert KEY not in everything(examination)


async def test_anthropics_key_is_tried_by_asking_for_the_models(
    look: Look, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cc_gateway.model_proxy.upstream.ANTHROPIC_URL", stub.url)
    stub.status, stub.body = 200, '{"data": []}'
    result = of(await look(ANTHROPIC_API_KEY=KEY), "model")
    assert words(result).endswith(", takes the key")
    (asked,) = stub.asked
    assert (asked["method"], asked["path"]) == ("GET", "/v1/models?limit=1")
    assert asked["headers"]["x-api-key"] == KEY


async def test_an_oauth_token_is_tried_as_the_proxy_would_send_it(
    look: Look, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cc_gateway.model_proxy.upstream.ANTHROPIC_URL", stub.url)
    stub.status, stub.body = 401, '{"type":"error","error":{"type":"authentication_error"}}'
    result = of(await look(CLAUDE_CODE_OAUTH_TOKEN=KEY), "model")
    assert "CLAUDE_CODE_OAUTH_TOKEN=$(claude setup-token)" in words(result)
    (asked,) = stub.asked
    assert asked["headers"]["authorization"] == f"Bearer {KEY}"
    assert asked["headers"]["anthropic-beta"]
    assert json.loads(asked["body"]) == {}


@pytest.mark.parametrize(
    ("status", "headers", "end", "says"),
    [
        (401, {}, Status.FAILURE, "it does not take the key (status 401)"),
        (403, {}, Status.FAILURE, "set CC_MODEL_KEY to one that this server takes"),
        (404, {}, Status.FAILURE, "it has no /v1/messages (status 404)"),
        (307, {"location": "https://elsewhere.test/"}, Status.FAILURE, "it leads elsewhere (https://elsewhere.test/)"),
        (429, {}, Status.WARNING, "it takes no more requests now"),
        (503, {}, Status.WARNING, "it has a fault of its own (status 503)"),
        (422, {}, Status.OK, "takes the key"),
    ],
)
async def test_what_a_server_answers_has_a_meaning(
    look: Look, stub: Stub, status: int, headers: dict[str, str], end: Status, says: str
) -> None:
    stub.status, stub.headers = status, headers
    result = of(await look(CC_MODEL_URL=stub.url, CC_MODEL_KEY=KEY), "model")
    assert result.status is end
    assert says in words(result)


async def test_a_server_that_repeats_the_key_does_not_bring_it_out(look: Look, stub: Stub) -> None:
    stub.status, stub.body = 401, f"no such key: {KEY}\x1b[2J"
    examination = await look(CC_MODEL_URL=stub.url, CC_MODEL_KEY=KEY)
    assert "no such key: [redacted]" in words(of(examination, "model"))
    assert KEY not in everything(examination)
    assert "\x1b" not in everything(examination)


async def test_an_address_with_v1_at_its_end_is_mended(look: Look, stub: Stub) -> None:
    stub.status = 404
    assert "without /v1" in words(of(await look(CC_MODEL_URL=f"{stub.url}/v1"), "model"))


async def test_a_server_that_is_not_there_is_a_failure(look: Look) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        result = of(await look(CC_MODEL_URL=f"http://user:canary@{address}"), "model")
    assert result.status is Status.FAILURE
    assert f"nobody listens at {address}" in words(result)
    assert "canary" not in words(result)


async def test_a_name_that_nobody_has_is_a_failure(look: Look) -> None:
    result = of(await look(CC_MODEL_URL="http://model.invalid"), "model")
    assert result.status is Status.FAILURE
    assert "getent hosts model.invalid" in words(result)


async def test_a_connection_that_cannot_be_encrypted_is_a_failure(look: Look, stub: Stub) -> None:
    result = of(await look(CC_MODEL_URL=stub.url.replace("http:", "https:")), "model")
    assert result.status is Status.FAILURE
    assert "the encrypted connection to 127.0.0.1:" in words(result)


async def test_a_key_with_a_line_break_is_a_failure(look: Look, stub: Stub) -> None:
    result = of(await look(CC_MODEL_URL=stub.url, CC_MODEL_KEY=f"{KEY}\n{KEY}"), "model")
    assert result.status is Status.FAILURE
    assert "line break" in words(result)
    assert not stub.asked
