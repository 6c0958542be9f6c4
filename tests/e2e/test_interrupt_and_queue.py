"""Interrupts, the queue of prompts, stopping and deleting: each turn gets its one end, and the session stays usable."""

import asyncio
from typing import Any

from support.api import Api
from support.common import Common
from support.processes import of_session, running_with
from support.scenario import bash, says, scripted
from support.waiting import until

LONG = "for i in $(seq 600); do sleep 0.1; done"
UNKNOWN_TURN = "turn_01k9x8h2m4n6p8q0r2s4t6v8w0"


async def under_way(api: Api, session_id: str, prompt: str, kind: str = "agent.tool_use") -> str:
    turn_id = await api.submit(session_id, prompt)
    await api.has_event(session_id, kind, turn_id=turn_id)
    return turn_id


async def interrupt(api: Api, session_id: str, **body: Any) -> str | None:
    answer = await api.post(f"sessions/{session_id}/interrupt", json=body or None)
    assert answer.status_code == 202, answer.text
    return answer.json()["turn_id"]  # type: ignore[no-any-return]


async def usable(api: Api, session_id: str) -> None:
    turn = await api.chat(session_id, scripted(says("usable")))
    assert (turn["status"], turn["result"]) == ("completed", "usable")


# ---------------------------------------------------------------- interrupts


async def test_an_interrupted_tool_is_killed_and_its_turn_ends_interrupted(mine: Api, common: Common) -> None:
    prompt = scripted(bash(f"{LONG}; echo loop-of-the-interrupted"), says("too late"))
    turn_id = await under_way(mine, common.session_id, prompt)
    await until(lambda: _found("loop-of-the-interrupted"), "the tool to run", 10)
    assert await interrupt(mine, common.session_id) == turn_id
    turn = await mine.ended(common.session_id, turn_id, 15)
    assert (turn["status"], turn["reason"]) == ("interrupted", "user")
    assert turn["result"] is None
    assert not running_with("loop-of-the-interrupted")
    kinds = [e["type"] for e in await mine.events(common.session_id) if e["turn_id"] == turn_id]
    assert kinds.count("user.interrupt") == 1
    assert "too late" not in str(await mine.events(common.session_id, types="agent.message"))
    idle = (await mine.events(common.session_id, types="session.status_idle", order="desc", limit=1))[0]
    assert idle["stop_reason"]["detail"] == "interrupted"
    await usable(mine, common.session_id)


async def _found(word: str) -> bool:
    return bool(running_with(word))


async def test_interrupted_text_ends_its_turn_and_the_next_prompt_remembers_what_was_asked(
    mine: Api, common: Common
) -> None:
    endless = says([f"word{n} " for n in range(3000)], chunk_delay_ms=20)
    turn_id = await under_way(
        mine, common.session_id, scripted(endless, text="tell me all"), "span.model_request_start"
    )
    assert await interrupt(mine, common.session_id, turn_id=turn_id) == turn_id
    assert (await mine.ended(common.session_id, turn_id, 15))["status"] == "interrupted"
    turn = await mine.chat(common.session_id, scripted(says("{{all_prompts}}")))
    assert "tell me all" in turn["result"]


async def test_a_queued_prompt_runs_after_the_interrupted_one(mine: Api, common: Common) -> None:
    first = await under_way(mine, common.session_id, scripted(bash(LONG)))
    queued = [await mine.submit(common.session_id, scripted(says(f"answer {n}"))) for n in range(2)]
    await interrupt(mine, common.session_id)
    assert (await mine.ended(common.session_id, first, 15))["status"] == "interrupted"
    assert [(await mine.ended(common.session_id, turn_id))["result"] for turn_id in queued] == ["answer 0", "answer 1"]


async def test_an_interrupt_that_names_another_turn_does_nothing(mine: Api, common: Common) -> None:
    prompt = scripted(bash("for i in $(seq 12); do sleep 0.1; done"), says("undisturbed"))
    turn_id = await under_way(mine, common.session_id, prompt)
    queued = await mine.submit(common.session_id, scripted(says("next")))
    assert await interrupt(mine, common.session_id, turn_id=UNKNOWN_TURN) is None
    assert await interrupt(mine, common.session_id, turn_id=queued) is None
    assert (await mine.ended(common.session_id, turn_id))["result"] == "undisturbed"
    assert (await mine.ended(common.session_id, queued))["result"] == "next"


async def test_interrupting_twice_is_as_once(mine: Api, common: Common) -> None:
    turn_id = await under_way(mine, common.session_id, scripted(bash(LONG)))
    assert [await interrupt(mine, common.session_id, turn_id=turn_id) for _ in range(3)] == [turn_id] * 3
    assert (await mine.ended(common.session_id, turn_id, 15))["status"] == "interrupted"
    assert (
        len([e for e in await mine.events(common.session_id, types="user.interrupt") if e["turn_id"] == turn_id]) == 1
    )
    await usable(mine, common.session_id)


async def test_an_interrupt_at_rest_hits_nothing(mine: Api, common: Common) -> None:
    await usable(mine, common.session_id)
    before = await mine.events(common.session_id, order="desc", limit=1)
    assert await interrupt(mine, common.session_id) is None
    assert await mine.events(common.session_id, order="desc", limit=1) == before
    await usable(mine, common.session_id)


# ---------------------------------------------------------------- the queue


async def test_a_queued_turn_can_be_canceled_twice_and_a_running_or_ended_one_not(mine: Api, common: Common) -> None:
    path = f"sessions/{common.session_id}/turns"
    running = await under_way(mine, common.session_id, scripted(bash(LONG)))
    queued = await mine.submit(common.session_id, scripted(says("never said")))
    for _ in range(2):
        answer = await mine.delete(f"{path}/{queued}")
        assert (answer.status_code, answer.json()["status"], answer.json()["reason"]) == (200, "canceled", "user")
    refused = await mine.delete(f"{path}/{running}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "turn_not_queued")
    assert (await mine.turn(common.session_id, running))["status"] == "running"
    assert (await mine.delete(f"{path}/{UNKNOWN_TURN}")).status_code == 404
    await interrupt(mine, common.session_id)
    await mine.ended(common.session_id, running, 15)
    assert (await mine.delete(f"{path}/{running}")).status_code == 409
    await usable(mine, common.session_id)
    kinds = [e["type"] for e in await mine.events(common.session_id) if e["turn_id"] == queued]
    assert kinds == ["user.message", "turn.queued", "turn.canceled"]


async def test_too_many_queued_turns_are_refused_until_there_is_room(tight: Api) -> None:
    session_id = await tight.open_session()
    first = await under_way(tight, session_id, scripted(bash(LONG)))
    queued = [await tight.submit(session_id, scripted(says(f"answer {n}"))) for n in range(3)]
    refused = await tight.post(f"sessions/{session_id}/chat", json={"prompt": "one more", "stream": True})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_queued_turns")
    assert int(refused.headers["retry-after"]) > 0
    assert len((await tight.get(f"sessions/{session_id}/turns")).json()["data"]) == 4
    assert (await tight.delete(f"sessions/{session_id}/turns/{queued[1]}")).status_code == 200
    last = await tight.submit(session_id, scripted(says("there is room")))
    await interrupt(tight, session_id)
    await tight.ended(session_id, first, 15)
    assert (await tight.ended(session_id, last))["result"] == "there is room"
    by_state = (await tight.get(f"sessions/{session_id}/turns", params={"status": "completed"})).json()["data"]
    assert [turn["result"] for turn in by_state] == ["answer 0", "answer 2", "there is room"]


async def test_too_many_sessions_are_refused_until_one_is_deleted(tight: Api) -> None:
    opened = [await tight.open_session() for _ in range(3)]
    refused = await tight.post("sessions", json={})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_sessions")
    assert int(refused.headers["retry-after"]) > 0
    await tight.delete(f"sessions/{opened[0]}")
    assert await tight.open_session()


# ---------------------------------------------------------------- stop and delete


async def test_a_stopped_session_cancels_its_queue_and_a_prompt_starts_it_again(api: Api) -> None:
    session_id = await api.open_session()
    running = await under_way(api, session_id, scripted(bash(LONG), text="remember alder"))
    queued = await api.submit(session_id, scripted(says("never said")))
    answer = await api.post(f"sessions/{session_id}/stop")
    assert answer.status_code == 200
    stopped = await api.has_status(session_id, "stopped", seconds=20)
    assert (stopped["reason"], stopped["container_id"]) == ("user", None)
    assert (await api.turn(session_id, running))["status"] == "interrupted"
    assert (await api.turn(session_id, queued))["status"] == "canceled"
    assert not of_session(session_id)
    assert (await api.post(f"sessions/{session_id}/stop")).json()["status"] == "stopped"
    turn = await api.chat(session_id, scripted(says("{{all_prompts}}"), text="which tree"))
    assert turn["status"] == "completed"
    assert "remember alder" in turn["result"]
    assert (await api.session(session_id))["incarnation"] == 2


async def test_a_session_deleted_while_it_runs_is_gone_with_all_that_it_ran(api: Api) -> None:
    session_id = await api.open_session()
    await under_way(api, session_id, scripted(bash(f"{LONG}; echo loop-of-the-deleted")))
    assert (await api.delete(f"sessions/{session_id}")).status_code == 204
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events"), ("POST", "/stop"), ("GET", "/events/stream")):
        assert (await api.request(method, f"sessions/{session_id}{path}")).status_code == 404
    await until(lambda: _none_of(session_id), "its processes to be gone", 15)
    assert not running_with("loop-of-the-deleted")
    assert session_id not in (await api.get("sessions")).text


async def _none_of(session_id: str) -> bool:
    return not of_session(session_id)


async def test_a_chat_that_waits_ends_when_its_session_is_deleted(api: Api) -> None:
    session_id = await api.open_session()
    turn_id = await under_way(api, session_id, scripted(bash(LONG)))
    queued = {"prompt": scripted(says("never said")), "timeout_seconds": 60}
    async with api.stream("POST", f"sessions/{session_id}/chat", json={"prompt": "x", "stream": True}) as answer:
        assert answer.status_code == 202
    waiting = asyncio.create_task(api.post(f"sessions/{session_id}/chat", json=queued))
    await until(lambda: _has_turns(api, session_id, 3), "the third turn to be queued", 10)
    await api.delete(f"sessions/{session_id}")
    answer = await asyncio.wait_for(waiting, 20)
    assert answer.status_code in (200, 404)
    assert turn_id
    if answer.status_code == 200:
        assert answer.json()["status"] == "canceled"


async def _has_turns(api: Api, session_id: str, count: int) -> bool:
    return len((await api.get(f"sessions/{session_id}/turns")).json()["data"]) == count


async def test_an_interrupt_that_is_sent_again_never_hits_the_next_turn(mine: Api, common: Common) -> None:
    path = f"sessions/{common.session_id}/interrupt"
    key = {"idempotency-key": "interrupt-once"}
    first = await under_way(mine, common.session_id, scripted(bash(LONG), says("too late")))
    assert (await mine.post(path, headers=key)).json()["turn_id"] == first
    await mine.ended(common.session_id, first, 15)
    second = await under_way(mine, common.session_id, scripted(bash("sleep 0.5; echo done"), says("reached its end")))
    assert (await mine.post(path, headers=key)).json()["turn_id"] == first
    turn = await mine.ended(common.session_id, second, 30)
    assert (turn["status"], turn["result"]) == ("completed", "reached its end")
    assert (await mine.post(path, headers=key, json={"turn_id": second})).status_code == 409
