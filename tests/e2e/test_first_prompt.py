"""A prompt goes through: the main job, over the real CLI."""

from support.api import Api
from support.scenario import bash, says, scripted


async def test_a_prompt_is_answered_with_result_usage_cost_and_duration(api: Api) -> None:
    session_id = await api.open_session()
    turn = await api.chat(session_id, scripted(says("forty-two")))
    assert turn["status"] == "completed"
    assert turn["result"] == "forty-two"
    assert turn["usage"]["input_tokens"] > 0
    assert turn["cost_usd"] > 0
    assert turn["duration_ms"] > 0


async def test_a_tool_runs_in_the_workspace_and_its_result_reaches_the_model(api: Api) -> None:
    session_id = await api.open_session()
    turn = await api.chat(
        session_id, scripted(bash("echo made > here.txt; cat here.txt"), says("{{last_tool_result}}"))
    )
    assert turn["result"] == "made"
    call, result = [e for e in await api.events(session_id) if e["type"] in ("agent.tool_use", "agent.tool_result")]
    assert result["tool_use_id"] == call["id"]
    assert result["content"] == [{"type": "text", "text": "made"}]
