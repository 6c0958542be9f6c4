"""Bad input: every refusal has its status, its code and its words, and changes nothing."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from support.api import Api
from support.common import Common, token_of
from support.gateway import GatewayProcess
from support.scenario import says, scripted

UNKNOWN = "sesn_01k9x8h2m4n6p8q0r2s4t6v8w0"
UNKNOWN_TURN = "turn_01k9x8h2m4n6p8q0r2s4t6v8w0"
JSON = {"content-type": "application/json"}

ROUTES = [
    ("GET", "sessions/{id}", None),
    ("PATCH", "sessions/{id}", {"title": "x"}),
    ("DELETE", "sessions/{id}", None),
    ("POST", "sessions/{id}/stop", None),
    ("POST", "sessions/{id}/interrupt", {}),
    ("POST", "sessions/{id}/chat", {"prompt": "x"}),
    ("GET", "sessions/{id}/turns", None),
    ("GET", "sessions/{id}/turns/" + UNKNOWN_TURN, None),
    ("DELETE", "sessions/{id}/turns/" + UNKNOWN_TURN, None),
    ("GET", "sessions/{id}/messages", None),
    ("GET", "sessions/{id}/events", None),
    ("GET", "sessions/{id}/events/stream", None),
]
"""Every route of a session, and a body that it takes."""


def refusal(answer: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """Check an error's form; its body."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    said = answer.json()
    assert set(said) == {"error", "request_id"}
    assert set(said["error"]) == {"code", "message", "details"}
    assert said["error"]["message"]
    assert said["request_id"] == answer.headers["request-id"]
    if code:
        assert said["error"]["code"] == code
    return dict(said["error"])


async def state(api: Api) -> Any:
    """All that a refused request could have changed, of this owner."""
    sessions = (await api.get("sessions", params={"limit": 200})).json()["data"]
    heads = [(await api.get(f"sessions/{s['session_id']}/events", params={"limit": 1})).json() for s in sessions]
    settled = [{k: v for k, v in s.items() if k in ("session_id", "title", "metadata", "config")} for s in sessions]
    return settled, [head["last_seq"] for head in heads]


@pytest.fixture
async def unchanged(mine: Api, common: Common) -> AsyncIterator[None]:
    """What a test asks for changes nothing."""
    await mine.has_status(common.session_id, "idle")
    before = await state(mine)
    yield
    assert await state(mine) == before


# ---------------------------------------------------------------- bodies

BAD_BODIES = [
    b"",
    b"{",
    b"not json",
    b'{"prompt": "x"',
    b"\xff\xfe",
    b'{"prompt": "\xff"}',
    b"[" * 100_000,
]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("body", BAD_BODIES, ids=lambda body: repr(body)[:20])
async def test_what_is_no_json_is_a_400_or_says_that_a_body_is_needed(mine: Api, common: Common, body: bytes) -> None:
    for path in ("sessions", f"sessions/{common.session_id}/chat"):
        answer = await mine.post(path, content=body, headers=JSON)
        if body:
            refusal(answer, 400, "invalid_json")
        else:
            refusal(answer, 422, "invalid_request")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], ""),
        ("text", ""),
        (None, ""),
        ({"surprise": 1}, "surprise"),
        ({"title": 5}, "title"),
        ({"title": ""}, "title"),
        ({"title": "x" * 501}, "title"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["x"]}, "prompt"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"": 1}}, "metadata"),
        ({"metadata": {f"k{n}": n for n in range(65)}}, "metadata"),
        ({"workspace": {"type": "else"}}, "workspace.type"),
        ({"workspace": {"type": "persistent"}}, "workspace"),
        ({"workspace": {"type": "ephemeral", "id": "x"}}, "workspace"),
        ({"workspace": {"type": "persistent", "id": "../../etc"}}, "workspace.id"),
        ({"workspace": {"type": "persistent", "id": "a/b"}}, "workspace.id"),
        ({"workspace": {"type": "persistent", "id": "a\n"}}, "workspace.id"),
        ({"config": {"surprise": 1}}, "config.surprise"),
        ({"config": {"model": "--flag x"}}, "config.model"),
        ({"config": {"model": ""}}, "config.model"),
        ({"config": {"permission_mode": "yolo"}}, "config.permission_mode"),
        ({"config": {"max_turns": 0}}, "config.max_turns"),
        ({"config": {"max_turns": "many"}}, "config.max_turns"),
        ({"config": {"timeout_seconds": -1}}, "config.timeout_seconds"),
        ({"config": {"timeout_seconds": 1e300}}, "config.timeout_seconds"),
        ({"config": {"env": {"1BAD": "x"}}}, "config.env"),
        ({"config": {"env": {"GOOD": 5}}}, "config.env.GOOD"),
        ({"config": {"env": {"ANTHROPIC_BASE_URL": "http://evil"}}}, "config.env"),
        ({"config": {"env": {"LD_PRELOAD": "x"}}}, "config.env"),
        ({"config": {"env": {"GOOD": "nul \u0000"}}}, "config.env"),
        ({"config": {"allowed_tools": "Bash"}}, "config.allowed_tools"),
        ({"config": {"allowed_tools": [""]}}, "config.allowed_tools.0"),
        ({"config": {"mcp_servers": {"x": {"type": "stdio"}}}}, "config.mcp_servers.x"),
        ({"config": {"mcp_servers": {"x": {"type": "http", "url": "file:///etc"}}}}, "config.mcp_servers.x"),
        ({"config": {"mcp_servers": {"a b": {"type": "stdio", "command": "x"}}}}, "config.mcp_servers"),
        ({"config": {"skills": [{"name": "../x", "content": "x"}]}}, "config.skills.0"),
        ({"config": {"skills": ["No Name"]}}, "config.skills.0"),
        ({"title": "nul \u0000"}, "title"),
        ({"title": "\ud800"}, "title"),
        ({"metadata": {"k": "\ud800"}}, "metadata"),
        ({"metadata": {"\ud800": 1}}, "metadata"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"metadata": {"k": 10**30}}, "metadata"),
        ({"metadata": {"k": float("nan")}}, "metadata"),
        ({"metadata": {"k": float("inf")}}, "metadata"),
    ],
    ids=lambda value: json.dumps(value)[:60] if not isinstance(value, str) else "",
)
async def test_a_wrong_field_of_a_new_session_is_refused_by_its_name(mine: Api, body: Any, field: str) -> None:
    answer = await mine.post("sessions", content=json.dumps(body), headers=JSON)
    error = refusal(answer, 422)
    assert field in error["message"]
    if error["code"] == "invalid_request":
        assert any(problem["field"].startswith(field) for problem in error["details"].get("problems", [])) or not field


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "prompt"),
        ({"prompt": "x", "content": [{"type": "text", "text": "x"}]}, "content"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": "x", "stream": "perhaps"}, "stream"),
        ({"prompt": "x", "timeout_seconds": 0}, "timeout_seconds"),
        ({"prompt": "x", "timeout_seconds": float("nan")}, "timeout_seconds"),
        ({"prompt": "x", "surprise": {}}, "surprise"),
        ({"prompt": "nul \u0000"}, "NUL"),
        ({"prompt": "\ud800"}, ""),
        ({"content": []}, "content"),
        ({"content": [{"type": "text"}]}, "content.0.text"),
        ({"content": [{"type": "text", "text": "nul \u0000"}]}, "NUL"),
        ({"content": [{"type": "video"}]}, "content.0"),
        ({"content": [{"type": "text", "text": "x", "cache_control": {}}]}, "content.0.text.cache_control"),
        ({"content": [{"type": "image", "source": {"type": "url", "url": "http://x"}}]}, "content.0.image"),
        (
            {"content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "%%"}}]},
            "content.0.image.source.data",
        ),
        (
            {"content": [{"type": "image", "source": {"type": "base64", "media_type": "image/bmp", "data": "AAAA"}}]},
            "content.0.image.source.media_type",
        ),
        ({"content": [{"type": "document", "source": {"type": "url", "url": "http://x"}}]}, "content.0.document"),
    ],
    ids=lambda value: json.dumps(value)[:60] if not isinstance(value, str) else "",
)
async def test_a_wrong_prompt_is_refused_and_queues_nothing(mine: Api, common: Common, body: Any, field: str) -> None:
    answer = await mine.post(f"sessions/{common.session_id}/chat", content=json.dumps(body), headers=JSON)
    assert field in refusal(answer, 422)["message"]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"surprise": 1},
        {"title": ""},
        {"title": "\ud800"},
        {"metadata": {"k": 10**30}},
        {"model": ""},
        {"model": "a b"},
        {"permission_mode": "yolo"},
        {"workspace": {}},
        {"metadata": {"k" * 65: 1}},
    ],
    ids=lambda body: json.dumps(body)[:40],
)
async def test_a_wrong_change_is_refused(mine: Api, common: Common, body: Any) -> None:
    refusal(await mine.patch(f"sessions/{common.session_id}", content=json.dumps(body), headers=JSON), 422)


async def test_metadata_may_not_grow_over_its_limit_by_many_changes(mine: Api, common: Common) -> None:
    path = f"sessions/{common.session_id}"
    for part in range(4):
        answer = await mine.patch(path, json={"metadata": {f"k{part}-{n}": n for n in range(30)}})
        if answer.status_code != 200:
            refusal(answer, 422)
    assert len((await mine.session(common.session_id))["metadata"]) <= 64
    names = (await mine.session(common.session_id))["metadata"]
    for start in range(0, len(names), 60):
        await mine.patch(path, json={"metadata": dict.fromkeys(list(names)[start : start + 60])})


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "body",
    [
        {"config": {"budget_usd": 1}},
        {"config": {"network": "open"}},
        {"config": {"secrets": ["X"]}},
        {"config": {"permission_mode": "ask"}},
        {"workspace": {"type": "clone", "from": "x"}},
    ],
    ids=lambda body: json.dumps(body),
)
async def test_what_is_planned_but_not_built_is_refused_as_just_that(mine: Api, body: Any) -> None:
    error = refusal(await mine.post("sessions", json=body), 422, "not_supported_yet")
    assert "not built yet" in error["message"]


@pytest.mark.usefixtures("unchanged")
async def test_permission_mode_ask_is_not_built_yet_in_a_change_either(mine: Api, common: Common) -> None:
    answer = await mine.patch(f"sessions/{common.session_id}", json={"permission_mode": "ask"})
    refusal(answer, 422, "not_supported_yet")


async def test_a_skill_that_nobody_knows_is_refused(mine: Api) -> None:
    error = refusal(await mine.post("sessions", json={"config": {"skills": ["nobody-knows"]}}), 422, "unknown_skill")
    assert "nobody-knows" in error["message"]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "query",
    [
        "events?after=-1",
        "events?after=x",
        "events?after=99999999999999999999",
        "events?limit=0",
        "events?limit=1001",
        "events?order=random",
        "events?raw=perhaps",
        "events?before=0",
        "turns?status=lost",
        "turns?cursor=x",
        "turns?cursor=-1",
        "turns?limit=0",
        "messages?cursor=x",
        "messages?cursor=99999999999999999999",
        "messages?limit=1001",
        "events/stream?after=-1",
    ],
)
async def test_a_wrong_query_is_refused(mine: Api, common: Common, query: str) -> None:
    refusal(await mine.get(f"sessions/{common.session_id}/{query}"), 422)


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "cursor=x", "cursor=sesn_x", "status=lost"])
async def test_a_wrong_query_of_the_list_is_refused(mine: Api, query: str) -> None:
    refusal(await mine.get(f"sessions?{query}"), 422)


# ---------------------------------------------------------------- size


async def test_a_prompt_over_the_limit_is_a_413_that_names_it(tight: Api) -> None:
    session_id = await tight.open_session()
    for path, body in (
        (f"sessions/{session_id}/chat", {"prompt": "x" * 20_001}),
        ("sessions", {"prompt": "x" * 20_001}),
        (f"sessions/{session_id}/chat", {"content": [{"type": "text", "text": "x" * 10_000}] * 2}),
    ):
        error = refusal(await tight.post(path, json=body), 413, "prompt_too_large")
        assert error["details"]["limit"] == 20_000
    assert (await tight.get(f"sessions/{session_id}/turns")).json()["data"] == []
    assert len((await tight.get("sessions")).json()["data"]) == 1
    assert (await tight.chat(session_id, "x" * 19_000, stream=True))["status"] == "queued"


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_over_the_limit_is_a_413_whether_it_says_its_length_or_not(tight: Api, announced: bool) -> None:
    body = json.dumps({"prompt": "x" * 50_000}).encode()

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    answer = await tight.post("sessions", content=body if announced else chunks(), headers=JSON)
    error = refusal(answer, 413, "payload_too_large")
    assert error["details"]["limit"] == 40_000
    assert (await tight.get("sessions")).json()["data"] == []


# ---------------------------------------------------------------- who asks

BAD_TOKENS = ["nonsense", "a.b.c", "x" * 10_000]


@pytest.mark.parametrize(("method", "path", "body"), [("GET", "sessions", None), ("POST", "sessions", {}), *ROUTES])
async def test_no_route_answers_without_a_good_token(common: Common, method: str, path: str, body: Any) -> None:
    path = path.format(id=common.session_id)
    gateway = common.gateway
    bad = [f"Bearer {token}" for token in BAD_TOKENS]
    bad += [
        f"Bearer {token_of(gateway, 'common', exp=1_700_000_000)}",
        f"Bearer {token_of(gateway, 'common', aud='x')}",
    ]
    bad += [common.token, f"Basic {common.token}", f"Bearer {common.token[:-3]}AAA"]
    async with httpx.AsyncClient(base_url=f"{gateway.url}/api/v1/", trust_env=False) as plain:
        for header in [None, *bad]:
            headers = {} if header is None else {"authorization": header}
            answer = await plain.request(method, path, json=body, headers=headers)
            refusal(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
    async with common.api() as client:
        assert (await client.session(common.session_id))["status"] in ("idle", "starting")


async def test_health_answers_without_a_token(gateway: GatewayProcess) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as plain:
        for path in ("/health", "/health/live", "/health/ready"):
            answer = await plain.get(path)
            assert (answer.status_code, answer.json()["status"]) == (200, "ok")
            assert answer.headers["request-id"]
        assert (await plain.get("/health")).json()["checks"] == {"database": "ok", "redis": "ok"}
        refusal(await plain.get("/metrics"), 401)
    async with gateway.api() as client:
        assert "cc_sessions{" in (await client.get(f"{client.root}/metrics")).text


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_another_owners_session_is_as_unknown_as_one_that_is_not_there(
    common: Common, method: str, path: str, body: Any
) -> None:
    async with common.gateway.api(token_of(common.gateway, "stranger")) as stranger:
        foreign = refusal(
            await stranger.request(method, path.format(id=common.session_id), json=body), 404, "not_found"
        )
        unknown = refusal(await stranger.request(method, path.format(id=UNKNOWN), json=body), 404, "not_found")
        nonsense = refusal(await stranger.request(method, path.format(id="nonsense"), json=body), 404, "not_found")
        assert foreign["message"].replace(common.session_id, "X") == unknown["message"].replace(UNKNOWN, "X")
        assert nonsense["message"]
        assert common.session_id not in (await stranger.get("sessions", params={"limit": 200})).text


async def test_another_owners_turn_cannot_be_read_through_ones_own_session(mine: Api, common: Common) -> None:
    turn = await mine.chat(common.session_id, scripted(says("secret")))
    async with common.gateway.api(token_of(common.gateway, "stranger")) as stranger:
        own = await stranger.open_session()
        for method in ("GET", "DELETE"):
            refusal(await stranger.request(method, f"sessions/{own}/turns/{turn['turn_id']}"), 404)
        await stranger.delete(f"sessions/{own}")


# ---------------------------------------------------------------- addresses


async def test_unknown_addresses_and_methods_have_the_form_of_every_error(mine: Api, common: Common) -> None:
    refusal(await mine.get("nothing/here"), 404, "not_found")
    refusal(await mine.get(f"{mine.root}/nothing"), 404, "not_found")
    refused = await mine.put(f"sessions/{common.session_id}", json={})
    refusal(refused, 405, "method_not_allowed")
    assert refused.headers["allow"]
    refusal(await mine.get(f"sessions/{common.session_id}/turns/{UNKNOWN_TURN}"), 404, "not_found")


async def test_every_answer_carries_a_request_id_of_its_own(mine: Api, common: Common) -> None:
    answers = [await mine.get(f"sessions/{common.session_id}") for _ in range(3)]
    assert len({answer.headers["request-id"] for answer in answers}) == 3


# ---------------------------------------------------------------- the same request again


async def test_the_same_session_asked_for_50_times_at_once_is_one_session(api: Api) -> None:
    body = {"title": "once", "prompt": scripted(says("once"))}
    headers = {"idempotency-key": "fifty-sessions"}
    answers = await asyncio.gather(*(api.post("sessions", json=body, headers=headers) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {201}
    [(session_id, turn_id)] = {(answer.json()["session_id"], answer.json()["turn_id"]) for answer in answers}
    assert [s["session_id"] for s in (await api.get("sessions")).json()["data"]] == [session_id]
    other = await api.post("sessions", json=body | {"title": "twice"}, headers=headers)
    refusal(other, 409, "idempotency_key_reused")
    assert (await api.ended(session_id, turn_id))["result"] == "once"
    assert len((await api.get(f"sessions/{session_id}/turns")).json()["data"]) == 1


async def test_the_same_prompt_sent_50_times_at_once_is_one_turn(mine: Api, common: Common) -> None:
    path = f"sessions/{common.session_id}/chat"
    before = len((await mine.get(f"sessions/{common.session_id}/turns", params={"limit": 200})).json()["data"])
    body = {"prompt": scripted(says("once")), "timeout_seconds": 30}
    headers = {"idempotency-key": "fifty-prompts"}
    answers = await asyncio.gather(*(mine.post(path, json=body, headers=headers) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["turn_id"] for answer in answers}) == 1
    assert {answer.json()["result"] for answer in answers} == {"once"}
    refusal(await mine.post(path, json=body | {"prompt": "other"}, headers=headers), 409, "idempotency_key_reused")
    refusal(await mine.post("sessions", json={}, headers=headers), 409, "idempotency_key_reused")
    after = len((await mine.get(f"sessions/{common.session_id}/turns", params={"limit": 200})).json()["data"])
    assert after == before + 1


async def test_a_key_whose_session_was_deleted_is_answered_and_never_a_fault(api: Api) -> None:
    headers = {"idempotency-key": "made-and-deleted"}
    first = await api.post("sessions", json={}, headers=headers)
    assert (await api.delete(f"sessions/{first.json()['session_id']}")).status_code == 204
    again = await api.post("sessions", json={}, headers=headers)
    assert again.status_code in (201, 404, 409), again.text


async def test_keys_belong_to_their_owner(mine: Api, common: Common) -> None:
    headers = {"idempotency-key": "whose"}
    made = [await mine.post("sessions", json={"title": "mine"}, headers=headers)]
    async with common.gateway.api(token_of(common.gateway, "stranger")) as stranger:
        made.append(await stranger.post("sessions", json={"title": "mine"}, headers=headers))
        assert [answer.status_code for answer in made] == [201, 201]
        assert made[0].json()["session_id"] != made[1].json()["session_id"]
        await stranger.delete(f"sessions/{made[1].json()['session_id']}")
    await mine.delete(f"sessions/{made[0].json()['session_id']}")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("key", ["", "x" * 256, "tab\tinside"])
async def test_a_bad_key_is_refused(mine: Api, common: Common, key: str) -> None:
    for path, body in (("sessions", {}), (f"sessions/{common.session_id}/chat", {"prompt": "x"})):
        refusal(await mine.post(path, json=body, headers={"idempotency-key": key}), 422, "bad_idempotency_key")
