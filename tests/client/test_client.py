"""The client's requests: what it sends, what it makes of answers, and when it tries again."""

import pytest
from fastapi.responses import PlainTextResponse

from cc_client import ApiError, Client, Unreachable
from client.stub_gateway import TOKEN, StubGateway, refusal


async def test_a_session_is_opened_with_its_prompt_and_settings(client: Client, stub: StubGateway) -> None:
    session = await client.create_session(prompt="hello", workspace="repo", config={"model": "m", "max_turns": None})
    assert session.status == "idle"
    assert session.turn_id
    _, _, _, body = stub.requests[-1]
    assert body == {"prompt": "hello", "workspace": {"type": "persistent", "id": "repo"}, "config": {"model": "m"}}


async def test_chat_answers_with_the_ended_turn(client: Client, stub: StubGateway) -> None:
    turn = await client.chat(stub.add_session(), "hello")
    assert turn.ended
    assert turn.status == "completed"


async def test_chat_whose_wait_ran_out_answers_with_a_turn_that_goes_on(client: Client, stub: StubGateway) -> None:
    stub.hold = True
    turn = await client.chat(stub.add_session(), "hello", timeout_seconds=1)
    assert not turn.ended


async def test_interrupt_names_the_turn_that_it_hit_or_none(client: Client, stub: StubGateway) -> None:
    stub.hold = True
    session_id = stub.add_session()
    turn = await client.send(session_id, "hello")
    assert await client.interrupt(session_id) == turn.turn_id
    assert await client.interrupt(session_id) is None


async def test_lists_are_read_page_by_page_to_their_end(client: Client, stub: StubGateway) -> None:
    ids = {stub.add_session() for _ in range(5)}
    session_id = min(ids)
    for number in range(4):
        await client.send(session_id, f"prompt {number}")
    assert {session.session_id for session in await client.all_sessions()} == ids
    assert [turn.number for turn in await client.all_turns(session_id)] == [1, 2, 3, 4]
    seqs = [event.seq async for event in client.all_events(session_id)]
    assert seqs == list(range(1, 17))
    assert len([message async for message in client.all_messages(session_id)]) == 8


async def test_a_refusal_is_an_api_error_with_all_its_fields(client: Client, stub: StubGateway) -> None:
    stub.answers = [refusal(429, "too_many_requests", "20 turns wait already", {"Retry-After": "7"}, limit=20)]
    with pytest.raises(ApiError) as caught:
        await client.send(stub.add_session(), "hello")
    error = caught.value
    assert (error.code, error.status, error.retry_after, error.details) == (
        "too_many_requests",
        429,
        7.0,
        {"limit": 20},
    )
    assert error.request_id is not None
    assert error.request_id.startswith("req_")
    assert str(error) == "20 turns wait already (too_many_requests)"


async def test_an_answer_of_something_else_than_a_gateway_is_an_api_error_too(
    client: Client, stub: StubGateway
) -> None:
    stub.answers = [PlainTextResponse("<html>bad gateway</html>", 502), PlainTextResponse("welcome")]
    with pytest.raises(ApiError, match="HTTP 502") as caught:
        await client.session("sesn_x")
    assert caught.value.code == "unexpected_answer"
    with pytest.raises(ApiError, match="not JSON"):
        await client.session("sesn_x")


async def test_a_post_is_tried_again_after_a_503_under_the_same_key(client: Client, stub: StubGateway) -> None:
    away = refusal(503, "unavailable", "Redis is away", {"Retry-After": "0.01"})
    stub.answers = [away, away]
    await client.create_session(prompt="hello")
    keys = [headers["idempotency-key"] for _, _, headers, _ in stub.requests]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert len(stub.sessions) == 1


async def test_different_posts_have_different_keys_and_a_key_of_ones_own_is_kept(
    client: Client, stub: StubGateway
) -> None:
    session_id = stub.add_session()
    await client.send(session_id, "one")
    await client.send(session_id, "one")
    await client.send(session_id, "one", idempotency_key="mine")
    keys = [headers["idempotency-key"] for _, _, headers, _ in stub.requests]
    assert len(set(keys)) == 3
    assert keys[-1] == "mine"


async def test_a_503_that_stays_is_raised_after_the_last_try(client: Client, stub: StubGateway) -> None:
    stub.answers = [refusal(503, "unavailable", "away", {"Retry-After": "0.01"}) for _ in range(3)]
    with pytest.raises(ApiError) as caught:
        await client.sessions()
    assert caught.value.status == 503
    assert len(stub.requests) == 3


async def test_a_gateway_that_does_not_answer_is_unreachable(client: Client, stub: StubGateway) -> None:
    async with Client("http://127.0.0.1:1", TOKEN, retries=1) as nobody:
        with pytest.raises(Unreachable, match="does not answer"):
            await nobody.sessions()


async def test_an_id_with_odd_characters_cannot_change_the_path(client: Client, stub: StubGateway) -> None:
    stub.answers = [refusal(404, "not_found", "no")]
    with pytest.raises(ApiError):
        await client.session("../sessions?x=")
    assert stub.requests[-1][1] != "/sessions"
