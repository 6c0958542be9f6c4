"""Errors of the model: a turn ends with their reason or recovers, retries can be seen, and the session stays usable."""

import socket
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from support.api import Api
from support.common import Common, common_session
from support.gateway import GatewayProcess
from support.scenario import bash, says, scripted


@pytest.fixture(scope="module")
def common(gateway: GatewayProcess) -> Iterator[Common]:
    with common_session(gateway, config={"env": {"CLAUDE_CODE_MAX_RETRIES": "1"}}) as made:
        yield made


@pytest.fixture
async def mine(common: Common) -> AsyncIterator[Api]:
    async with common.api() as client:
        yield client


async def errors_of(api: Api, session_id: str, turn: dict[str, Any]) -> list[dict[str, Any]]:
    found = await api.events(session_id, types="session.error")
    return [event["error"] for event in found if event["turn_id"] == turn["turn_id"]]


async def usable(api: Api, session_id: str) -> None:
    turn = await api.chat(session_id, scripted(says("usable")))
    assert (turn["status"], turn["result"]) == ("completed", "usable")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "model_request_failed_error"),
        (401, "authentication_error"),
        (403, "model_request_failed_error"),
        (404, "model_request_failed_error"),
        (429, "model_rate_limited_error"),
        (500, "model_request_failed_error"),
        (529, "model_overloaded_error"),
    ],
)
async def test_a_turn_fails_with_the_models_reason_and_the_session_stays_usable(
    mine: Api, common: Common, status: int, kind: str
) -> None:
    prompt = scripted({"error": {"status": status, "message": f"because-{status}"}})
    turn = await mine.chat(common.session_id, prompt)
    assert turn["status"] == "failed"
    assert turn["error"]["type"] == kind, turn["error"]
    assert turn["error"]["message"]
    if status != 529:  # the CLI does not tell the status of an overload
        assert turn["error"]["http_status"] == status
    final = [
        error for error in await errors_of(mine, common.session_id, turn) if error["retry_status"]["type"] != "retrying"
    ]
    assert [(error["type"], error["retry_status"]["type"]) for error in final] == [(kind, "exhausted")]
    idle = (await mine.events(common.session_id, types="session.status_idle", order="desc", limit=1))[0]
    assert idle["stop_reason"]["type"] == "retries_exhausted"
    failed = await mine.has_event(common.session_id, "turn.failed", turn_id=turn["turn_id"])
    assert failed["error"] == turn["error"]
    await usable(mine, common.session_id)


@pytest.mark.parametrize("status", [429, 500, 529])
async def test_what_the_cli_tries_again_is_seen_and_recovers(mine: Api, common: Common, status: int) -> None:
    turn = await mine.chat(common.session_id, scripted(says("in the end", error={"status": status, "times": 1})))
    assert (turn["status"], turn["result"]) == ("completed", "in the end")
    [error] = await errors_of(mine, common.session_id, turn)
    assert error["retry_status"] == {"type": "retrying"}
    assert (error["http_status"], error["attempt"]) == (status, 1)


@pytest.mark.parametrize("fault", [{"cut": True}, {"sse_error": True}, {"cut": {"after_deltas": 3}}], ids=str)
async def test_a_stream_that_breaks_off_is_asked_for_again_and_recovers_whole(
    mine: Api, common: Common, fault: dict[str, Any]
) -> None:
    words = [f"word{n} " for n in range(8)]
    turn = await mine.chat(common.session_id, scripted(says(words, **fault)))
    assert turn["status"] == "completed", turn["error"]
    assert turn["result"].strip() == "".join(words).strip()
    found = [event for event in await mine.events(common.session_id) if event["turn_id"] == turn["turn_id"]]
    assert len([event for event in found if event["type"] == "agent.message"]) == 1
    starts = [event["id"] for event in found if event["type"] == "span.model_request_start"]
    ends = [event["model_request_start_id"] for event in found if event["type"] == "span.model_request_end"]
    assert sorted(starts) == sorted(ends)


async def test_a_stream_that_always_breaks_off_fails_the_turn(mine: Api, common: Common) -> None:
    turn = await mine.chat(common.session_id, scripted(says(["a", "b", "c"], cut={"after_deltas": 1, "times": None})))
    assert turn["status"] == "failed"
    assert turn["error"]["type"] == "model_request_failed_error"
    await usable(mine, common.session_id)


async def test_an_error_after_a_tool_fails_the_turn_and_keeps_what_was_done(mine: Api, common: Common) -> None:
    turn = await mine.chat(common.session_id, scripted(bash("echo made > made.txt"), {"error": {"status": 400}}))
    assert turn["status"] == "failed"
    after = await mine.chat(common.session_id, scripted(bash("cat made.txt"), says("{{last_tool_result}}")))
    assert after["result"] == "made"


async def test_an_unknown_model_of_the_config_fails_the_turn_and_a_known_one_mends_it(api: Api) -> None:
    session_id = await api.open_session(config={"model": "unknown-model"})
    turn = await api.chat(session_id, scripted(says("x")))
    assert (turn["status"], turn["error"]["http_status"]) == ("failed", 404)
    assert "unknown-model" in turn["error"]["message"]
    assert (await api.patch(f"sessions/{session_id}", json={"model": "claude-known"})).status_code == 200
    await usable(api, session_id)


async def test_a_change_to_an_unknown_model_fails_the_next_turn_and_a_known_one_mends_it(
    mine: Api, common: Common
) -> None:
    path = f"sessions/{common.session_id}"
    assert (await mine.patch(path, json={"model": "unknown-model"})).status_code == 200
    turn = await mine.chat(common.session_id, scripted(says("x")))
    assert turn["status"] == "failed"
    assert turn["error"]["http_status"] == 404
    assert "unknown-model" in turn["error"]["message"]
    assert (await mine.patch(path, json={"model": "claude-known"})).status_code == 200
    await usable(mine, common.session_id)


async def test_a_broken_scenario_says_what_is_wrong_with_it(mine: Api, common: Common) -> None:
    turn = await mine.chat(common.session_id, 'go\n```scenario\n[{"txt": "typo"}]\n```')
    assert turn["status"] == "failed"
    assert "txt" in turn["error"]["message"]


async def test_a_wrong_key_fails_the_turn_at_once_and_not_after_minutes(api: Api) -> None:
    session_id = await api.open_session()
    await usable(api, session_id)
    begun = time.monotonic()
    turn = await api.chat(session_id, scripted({"error": {"status": 401}}))
    assert time.monotonic() - begun < 10
    assert (turn["status"], turn["error"]["type"], turn["error"]["http_status"]) == (
        "failed",
        "authentication_error",
        401,
    )
    assert [e["retry_status"]["type"] for e in await errors_of(api, session_id, turn)] == ["exhausted"]
    await usable(api, session_id)


async def test_a_model_that_cannot_be_reached_fails_the_turn_with_its_name(own_gateway: Any) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    gateway = own_gateway(CC_MODEL_URL=f"http://127.0.0.1:{port}", CC_SCRIPTED="false").start()
    assert gateway.facts["scripted"] is False
    async with gateway.api() as api:
        session_id = await api.open_session(config={"env": {"CLAUDE_CODE_MAX_RETRIES": "1"}})
        turn = await api.chat(session_id, "hello")
        assert turn["status"] == "failed"
        assert turn["error"]["type"] == "model_request_failed_error"
        assert turn["error"]["http_status"] == 502
        assert f"127.0.0.1:{port}" in turn["error"]["message"]
        seen = [error["retry_status"]["type"] for error in await errors_of(api, session_id, turn)]
        assert seen == ["retrying", "exhausted"]
        assert (await api.has_status(session_id, "idle"))["status"] == "idle"
