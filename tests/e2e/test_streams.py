"""Listeners: whoever comes back with a cursor sees every event exactly once and in order, over WebSocket and SSE."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from support.api import Api
from support.common import Common, token_of
from support.scenario import bash, says, scripted
from support.waiting import until

CUTS = 50
SEEDS = (1, 2, 3)
UNKNOWN = "sesn_01k9x8h2m4n6p8q0r2s4t6v8w0"

Event = dict[str, Any]


# ---------------------------------------------------------------- helpers


async def frames(connection: ClientConnection) -> AsyncIterator[Event]:
    """What comes over a WebSocket until the server closes it."""
    try:
        while True:
            yield json.loads(await connection.recv())
    except ConnectionClosed:
        return


async def frame(connection: ClientConnection, kind: str, seconds: float = 20) -> Event:
    """The next frame of this type; what comes before it is passed over."""
    async with asyncio.timeout(seconds):
        async for one in frames(connection):
            if one["type"] == kind:
                return one
    raise AssertionError(f"the connection was closed before a {kind}")


def is_end_of(event: Event, turn_id: str) -> bool:
    return event.get("turn_id") == turn_id and event["type"] in (
        "turn.completed",
        "turn.failed",
        "turn.interrupted",
        "turn.canceled",
    )


async def over_socket(api: Api, session_id: str, last_turn: str, chance: random.Random) -> tuple[list[Event], int]:
    """All events up to the end of a turn, over connections that are cut at random points; and how many there were."""
    seen: list[Event] = []
    cuts = set(chance.sample(range(1, 300), CUTS))
    connections = 0
    while True:
        connections += 1
        async with api.socket(session_id, after=seen[-1]["seq"] if seen else 0) as connection:
            async for one in frames(connection):
                if "seq" not in one:
                    continue
                seen.append(one)
                if is_end_of(one, last_turn):
                    return seen, connections
                if len(seen) in cuts:
                    if chance.random() < 0.5:
                        connection.transport.abort()
                    break
            else:
                raise AssertionError(f"the server closed the connection: {connection.close_code}")


async def over_sse(api: Api, session_id: str, last_turn: str, chance: random.Random) -> tuple[list[Event], int]:
    """The same over server-sent events, with `Last-Event-ID` as a browser sends it."""
    seen: list[Event] = []
    cuts = set(chance.sample(range(1, 300), CUTS))
    connections = 0
    last_id: str | None = None
    while True:
        connections += 1
        stream = api.sse(session_id, last_event_id=None if last_id is None else int(last_id))
        async for one in stream:
            if "id" not in one:
                continue
            last_id = one["id"]
            assert one["event"] == one["data"]["type"]
            assert int(last_id) == one["data"]["seq"]
            seen.append(one["data"])
            if is_end_of(one["data"], last_turn):
                await stream.aclose()
                return seen, connections
            if len(seen) in cuts:
                await stream.aclose()
                break
        else:
            raise AssertionError("the server ended the stream")


def busy_prompt(steps: int) -> str:
    return scripted(
        *({"blocks": [{"text": f"step {n} "}, bash(f"echo a{n}"), bash(f"echo b{n}")]} for n in range(steps)),
        says("all done"),
    )


# ---------------------------------------------------------------- every event exactly once


async def test_clients_that_are_cut_off_50_times_at_random_see_every_event_once_and_in_order(api: Api) -> None:
    session_id = await api.open_session()
    turns = [await api.submit(session_id, busy_prompt(14)) for _ in range(3)]
    async with asyncio.timeout(90):
        followers = [
            follow(api, session_id, turns[-1], random.Random(s)) for s in SEEDS for follow in (over_socket, over_sse)
        ]
        results = await asyncio.gather(*followers)
    recorded = await api.events(session_id)
    assert [event["seq"] for event in recorded] == list(range(1, len(recorded) + 1))
    end = next(n for n, event in enumerate(recorded, 1) if is_end_of(event, turns[-1]))
    assert end > 300
    for seen, connections in results:
        assert seen == recorded[:end]
        assert connections == CUTS + 1
    assert [t["status"] for t in (await api.get(f"sessions/{session_id}/turns")).json()["data"]] == ["completed"] * 3


async def test_two_listeners_at_once_see_the_same(mine: Api, common: Common) -> None:
    head = (await mine.events(common.session_id, order="desc", limit=1) or [{"seq": 0}])[0]["seq"]

    async def listen(kind: str, turn_id: str) -> list[Event]:
        seen = []
        if kind == "sse":
            async for one in mine.sse(common.session_id, after=head, previews=False):
                seen.append(one["data"])
                if is_end_of(one["data"], turn_id):
                    return seen
        async with mine.socket(common.session_id, after=head, previews="false") as connection:
            async for one in frames(connection):
                if "seq" in one:
                    seen.append(one)
                if is_end_of(one, turn_id):
                    return seen
        raise AssertionError("the stream ended")

    turn_id = await mine.submit(common.session_id, scripted(bash("echo one"), says("two")))
    async with asyncio.timeout(30):
        first, second, third = await asyncio.gather(*(listen(kind, turn_id) for kind in ("sse", "socket", "socket")))
    assert first == second == third
    assert "agent.tool_result" in [event["type"] for event in first]


async def test_a_cursor_of_the_future_waits_and_one_of_the_past_gets_the_rest(mine: Api, common: Common) -> None:
    await mine.chat(common.session_id, scripted(says("x")))
    events = await mine.events(common.session_id)
    async with mine.socket(common.session_id, after=events[-3]["seq"]) as connection:
        rest = [await frame(connection, event["type"]) for event in events[-2:]]
    assert rest == events[-2:]


# ---------------------------------------------------------------- previews


async def test_previews_are_a_prefix_of_the_final_event_and_none_comes_after_it(mine: Api, common: Common) -> None:
    words = [f"word{n} " for n in range(40)]
    prompt = scripted(says(words, chunk_delay_ms=5), text="stream")
    async with mine.socket(common.session_id, after=await _head(mine, common)) as connection:
        await frame(connection, "stream.ready")
        turn_id = await mine.submit(common.session_id, prompt)
        announced: dict[str, str] = {}
        parts: dict[str, list[str]] = {}
        final: dict[str, Event] = {}
        async with asyncio.timeout(30):
            async for one in frames(connection):
                if one["type"] == "event_start":
                    assert one["event"]["id"] not in final
                    announced[one["event"]["id"]] = one["event"]["type"]
                elif one["type"] == "event_delta":
                    assert one["event_id"] in announced
                    assert one["event_id"] not in final
                    parts.setdefault(one["event_id"], []).append(one["delta"]["content"]["text"])
                elif "seq" in one:
                    final[one["id"]] = one
                if is_end_of(one, turn_id):
                    break
    said = {event_id: event for event_id, event in final.items() if event["type"] == "agent.message"}
    [(event_id, message)] = said.items()
    whole = message["content"][0]["text"]
    assert whole == "".join(words)
    assert announced[event_id] == "agent.message"
    assert len(parts[event_id]) > 3
    assert whole.startswith("".join(parts[event_id]))


async def test_previews_carry_no_number_and_are_not_on_record(mine: Api, common: Common) -> None:
    async with mine.socket(common.session_id, after=await _head(mine, common)) as connection:
        await frame(connection, "stream.ready")
        await mine.submit(common.session_id, scripted(says(["a", "b", "c"], chunk_delay_ms=20)))
        preview = await frame(connection, "event_delta")
        await frame(connection, "turn.completed")
    assert "seq" not in preview
    assert preview["session_id"] == common.session_id
    kinds = {event["type"] for event in await mine.events(common.session_id)}
    assert not kinds & {"event_start", "event_delta"}


@pytest.mark.parametrize("over", ["socket", "sse"])
async def test_who_wants_no_previews_gets_none(mine: Api, common: Common, over: str) -> None:
    after = await _head(mine, common)
    turn_id = await mine.submit(common.session_id, scripted(says([f"w{n} " for n in range(20)], chunk_delay_ms=5)))
    kinds = []
    async with asyncio.timeout(30):
        if over == "sse":
            async for one in mine.sse(common.session_id, after=after, previews=False):
                kinds.append(one["event"])
                if is_end_of(one["data"], turn_id):
                    break
        else:
            async with mine.socket(common.session_id, after=after, previews="false") as connection:
                async for one in frames(connection):
                    kinds.append(one["type"])
                    if is_end_of(one, turn_id):
                        break
    assert "agent.message" in kinds
    assert not {"event_start", "event_delta"} & set(kinds)


# ---------------------------------------------------------------- talking over the WebSocket


async def test_a_prompt_over_the_socket_is_accepted_with_its_ref_and_its_turn_ends(mine: Api, common: Common) -> None:
    async with mine.socket(common.session_id, after=await _head(mine, common)) as connection:
        await connection.send(json.dumps({"type": "prompt", "prompt": scripted(says("over the wire")), "ref": "r-1"}))
        accepted = await frame(connection, "stream.accepted")
        assert accepted["ref"] == "r-1"
        end = await frame(connection, "turn.completed")
    assert end["turn_id"] == accepted["turn_id"]
    assert end["result"] == "over the wire"


async def test_the_same_prompt_with_the_same_key_is_one_turn_also_over_the_socket(mine: Api, common: Common) -> None:
    before = len((await mine.get(f"sessions/{common.session_id}/turns", params={"limit": 200})).json()["data"])
    said = {"type": "prompt", "prompt": scripted(says("once")), "idempotency_key": f"key-{before}"}
    async with mine.socket(common.session_id, after=await _head(mine, common)) as connection:
        for _ in range(3):
            await connection.send(json.dumps(said))
        turns = {(await frame(connection, "stream.accepted"))["turn_id"] for _ in range(3)}
        await connection.send(json.dumps(said | {"prompt": "something else"}))
        refused = await frame(connection, "stream.error")
        await mine.ended(common.session_id, *turns)
    assert len(turns) == 1
    assert refused["error"]["code"] == "idempotency_key_reused"
    after = len((await mine.get(f"sessions/{common.session_id}/turns", params={"limit": 200})).json()["data"])
    assert after == before + 1


async def test_an_interrupt_over_the_socket_ends_the_running_turn(mine: Api, common: Common) -> None:
    async with mine.socket(common.session_id, after=await _head(mine, common)) as connection:
        prompt = scripted(bash("for i in $(seq 300); do sleep 0.1; done"), says("too late"))
        await connection.send(json.dumps({"type": "prompt", "prompt": prompt}))
        turn_id = (await frame(connection, "stream.accepted"))["turn_id"]
        await frame(connection, "agent.tool_use")
        await connection.send(json.dumps({"type": "interrupt", "turn_id": turn_id, "ref": "i"}))
        assert await frame(connection, "stream.accepted") == {"type": "stream.accepted", "turn_id": turn_id, "ref": "i"}
        assert (await frame(connection, "turn.interrupted"))["turn_id"] == turn_id


async def test_a_ping_is_answered(mine: Api, common: Common) -> None:
    async with mine.socket(common.session_id, after=await _head(mine, common)) as connection:
        await connection.send(json.dumps({"type": "ping", "ref": "7"}))
        assert await frame(connection, "stream.pong") == {"type": "stream.pong", "ref": "7"}


@pytest.mark.parametrize(
    "bad",
    [
        "not json",
        "[]",
        "{}",
        '{"type": "shout"}',
        '{"type": "prompt"}',
        '{"type": "prompt", "prompt": ""}',
        '{"type": "prompt", "prompt": 5}',
        '{"type": "prompt", "prompt": "a", "surprise": 1}',
        '{"type": "prompt", "prompt": "nul \\u0000"}',
        '{"type": "prompt", "prompt": "surrogate \\ud800"}',
        '{"type": "interrupt", "turn_id": 1}',
        '{"type": "ping", "ref": ' + '"' + "x" * 300 + '"}',
        "[" * 100_000,
        b"\x00\xff binary",
        b'{"type": "ping", "ref": "binary"}',
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_a_bad_frame_gets_a_typed_error_and_the_connection_stays(
    mine: Api, common: Common, bad: str | bytes
) -> None:
    head = await _head(mine, common)
    async with mine.socket(common.session_id, after=head) as connection:
        await frame(connection, "stream.ready")
        await connection.send(bad)
        refused = await frame(connection, "stream.error")
        assert refused["error"]["code"]
        assert refused["error"]["message"]
        await connection.send(json.dumps({"type": "ping", "ref": "still there"}))
        assert (await frame(connection, "stream.pong"))["ref"] == "still there"
    assert await _head(mine, common) == head


# ---------------------------------------------------------------- who may listen


async def _refused(url: str, **options: Any) -> tuple[int, Event]:
    """The close code and the error frame of a connection that the server does not want."""
    async with asyncio.timeout(10), websockets.connect(url, proxy=None, **options) as connection:
        said = json.loads(await connection.recv())
        with pytest.raises(ConnectionClosed):
            await connection.recv()
        return connection.close_code or 0, said


def _address(common: Common, session_id: str | None = None, query: str = "") -> str:
    return (
        f"{common.gateway.url.replace('http', 'ws', 1)}/api/v1/sessions/{session_id or common.session_id}/stream{query}"
    )


async def test_a_socket_without_a_token_is_closed_with_a_reason(common: Common) -> None:
    code, said = await _refused(_address(common))
    assert (code, said["type"], said["error"]["code"]) == (4401, "stream.error", "unauthenticated")


async def test_a_socket_with_a_token_in_its_address_is_not_let_in(common: Common) -> None:
    code, _ = await _refused(_address(common, query=f"?token={common.token}&access_token={common.token}"))
    assert code == 4401


async def test_a_socket_with_a_bad_token_is_closed_as_unauthenticated(common: Common) -> None:
    code, said = await _refused(_address(common), additional_headers={"authorization": "Bearer nonsense"})
    assert (code, said["error"]["code"]) == (4401, "invalid_token")


async def test_a_socket_with_an_expired_token_is_closed_as_unauthenticated(common: Common) -> None:
    headers = {"authorization": f"Bearer {token_of(common.gateway, 'common', exp=1_700_000_000)}"}
    code, said = await _refused(_address(common), additional_headers=headers)
    assert (code, said["error"]["code"]) == (4401, "token_expired")


async def test_a_socket_from_a_foreign_origin_is_not_let_in_although_its_token_is_good(common: Common) -> None:
    headers = {"authorization": f"Bearer {common.token}"}
    code, _ = await _refused(_address(common), additional_headers=headers, origin="https://evil.example")
    assert code == 4401


async def test_a_browser_of_our_own_origin_gets_in_with_its_token_as_a_subprotocol(common: Common) -> None:
    protocols = ["cc-docker", f"bearer.{common.token}"]
    options = {"subprotocols": protocols, "origin": common.gateway.url, "proxy": None}
    async with asyncio.timeout(10), websockets.connect(_address(common), **options) as connection:
        assert json.loads(await connection.recv())["type"] == "stream.ready"
        assert connection.subprotocol == "cc-docker"


@pytest.mark.parametrize("session_id", [UNKNOWN, "nonsense"])
async def test_a_socket_to_an_unknown_session_is_closed_as_not_found(common: Common, session_id: str) -> None:
    headers = {"authorization": f"Bearer {common.token}"}
    code, said = await _refused(_address(common, session_id), additional_headers=headers)
    assert (code, said["error"]["code"]) == (4404, "not_found")


async def test_another_owners_session_looks_unknown_over_the_socket(common: Common) -> None:
    headers = {"authorization": f"Bearer {common.gateway.facts['token']}"}
    code, said = await _refused(_address(common), additional_headers=headers)
    assert (code, said["error"]["code"]) == (4404, "not_found")


@pytest.mark.parametrize("after", ["-1", "x", "1.5", "9" * 30, "٣"])
async def test_a_bad_cursor_is_refused_over_both(mine: Api, common: Common, after: str) -> None:
    headers = {"authorization": f"Bearer {common.token}"}
    code, _ = await _refused(_address(common, query=f"?after={after}"), additional_headers=headers)
    assert code == 4400
    answer = await mine.get(f"sessions/{common.session_id}/events/stream", headers={"last-event-id": after.encode()})
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "bad_cursor"


# ---------------------------------------------------------------- how streams live and end


async def test_a_deleted_session_ends_its_streams(api: Api) -> None:
    session_id = await api.open_session()
    await api.has_status(session_id, "idle")
    events = api.sse(session_id)
    async with asyncio.timeout(30), api.socket(session_id) as connection:
        await frame(connection, "session.status_idle")
        await anext(events)
        assert (await api.delete(f"sessions/{session_id}")).status_code == 204
        async for _ in events:
            pass
        async for _ in frames(connection):
            pass
        assert connection.close_code == 1000
    assert (await api.get(f"sessions/{session_id}")).status_code == 404


async def test_a_silent_stream_carries_heartbeats(tight: Api) -> None:
    session_id = await tight.open_session()
    comments = 0
    async with asyncio.timeout(20), tight.stream("GET", f"sessions/{session_id}/events/stream") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            comments += line == ": heartbeat"
            if comments == 3:
                break


async def test_a_listener_that_goes_away_is_forgotten(mine: Api, common: Common) -> None:
    async def followers() -> float:
        lines = (await mine.get(f"{mine.root}/metrics")).text.splitlines()
        return float(next(line for line in lines if line.startswith("cc_followers ")).split()[1])

    before = await followers()
    events = mine.sse(common.session_id)
    await anext(events)
    async with mine.socket(common.session_id) as connection:
        await frame(connection, "stream.ready")
        await until(lambda: _is(followers, before + 2), "two followers more", 5)
        connection.transport.abort()
    await events.aclose()
    await until(lambda: _is(followers, before), "the followers to be forgotten", 10)


async def _is(measure: Any, value: float) -> bool:
    return bool(await measure() == value)


async def _head(api: Api, common: Common) -> int:
    newest = await api.events(common.session_id, order="desc", limit=1)
    return newest[0]["seq"] if newest else 0
