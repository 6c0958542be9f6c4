"""A real model server behind the proxy: it gets the key, and nobody else sees it."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import uvicorn

from cc_gateway.model_proxy.scripted import create_scripted_app
from support.gateway import GatewayProcess
from support.scenario import bash, says, scripted

KEY = "canary-key-of-the-operator"
LOOK_AROUND = "env; cat $CLAUDE_CONFIG_DIR/*.json 2>/dev/null; true"
EVERYWHERE = f"cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; {LOOK_AROUND}"
"""Where nothing isolates a session it is its user, and may read what that user's gateway was started with."""


@pytest.fixture
def model_server() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """The scripted model as a server of its own, and the headers of the requests that it got."""
    seen: list[dict[str, str]] = []
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    app = create_scripted_app(on_request=lambda _body, headers: seen.append(dict(headers)))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen
    server.should_exit = True
    thread.join(10)


async def test_the_key_reaches_the_model_and_nothing_else(
    own_gateway: Callable[..., GatewayProcess], model_server: tuple[str, list[dict[str, str]]]
) -> None:
    url, seen = model_server
    gateway = own_gateway(CC_MODEL_URL=url, CC_MODEL_KEY=KEY, CC_SCRIPTED="false", CC_UNSAFE="true").start()
    async with gateway.api() as api:
        session_id = await api.open_session()
        look = EVERYWHERE if gateway.facts["isolated"] else LOOK_AROUND
        turn = await api.chat(session_id, scripted(bash(look), says("{{last_tool_result}}")))
        assert turn["status"] == "completed"
        assert "CLAUDE_CONFIG_DIR" in turn["result"], "positive control: it did see its environment"
        everything = str(await api.events(session_id, raw=True)) + str(turn) + str(await api.session(session_id))
    assert seen
    assert all(headers["x-api-key"] == KEY for headers in seen), "positive control: the model got it"
    assert all("authorization" not in headers for headers in seen)
    assert KEY not in everything
    gateway.stop()
    for path in (path for path in gateway.data_dir.rglob("*") if path.is_file()):
        assert KEY.encode() not in path.read_bytes(), path
    assert KEY not in gateway.log()


@pytest.mark.embedded
async def test_a_real_model_may_not_run_unlisted_commands_where_nothing_isolates_it(
    own_gateway: Callable[..., GatewayProcess], model_server: tuple[str, list[dict[str, str]]]
) -> None:
    url, _ = model_server
    gateway = own_gateway(CC_MODEL_URL=url, CC_SCRIPTED="false", CC_BUBBLEWRAP="off").start()
    assert gateway.facts["isolated"] is False
    async with gateway.api() as api:
        refused = await api.post("sessions", json={"config": {"permission_mode": "bypassPermissions"}})
        assert refused.status_code == 422
        assert refused.json()["error"]["code"] == "permission_mode_not_allowed"
        session_id = await api.open_session(config={"allowed_tools": ["Bash(echo listed)"]})
        turn = await api.chat(
            session_id, scripted(bash("rm -rf /nowhere-at-all"), bash("echo listed"), says("{{last_tool_result}}"))
        )
        assert turn["result"] == "listed"
        results = [e for e in await api.events(session_id) if e["type"] == "agent.tool_result"]
        assert [result["is_error"] for result in results] == [True, False]
