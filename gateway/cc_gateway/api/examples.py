"""The examples of the API's documentation, once each."""

from typing import Any

SESSION_ID = "sesn_01k9x8h2m4n6p8q0r2s4t6v8w0"
TURN_ID = "turn_01k9x8h2m4n6p8q0r2s4t6v8w0"
AT = "2026-11-21T10:00:00.000000Z"
SESSION: dict[str, Any] = {
    "session_id": SESSION_ID,
    "status": "idle",
    "reason": None,
    "container_id": f"4711:98765:{SESSION_ID}:1",
    "title": "Nightly review",
    "metadata": {"team": "infra"},
    "workspace": {"type": "persistent", "id": "my-repo"},
    "config": {"model": "claude-sonnet-5"},
    "created_at": AT,
    "updated_at": AT,
    "incarnation": 1,
    "websocket_url": f"ws://127.0.0.1:8080/api/v1/sessions/{SESSION_ID}/stream",
    "events_url": f"http://127.0.0.1:8080/api/v1/sessions/{SESSION_ID}/events",
    "turn_id": None,
}
TURN: dict[str, Any] = {
    "turn_id": TURN_ID,
    "session_id": SESSION_ID,
    "number": 1,
    "status": "completed",
    "content": [{"type": "text", "text": "list the files here and say hello"}],
    "created_at": AT,
    "started_at": AT,
    "ended_at": AT,
    "attempt": 1,
    "result": "hello",
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1200, "output_tokens": 40},
    "cost_usd": 0.0066,
    "duration_ms": 1840,
    "num_turns": 2,
}
MESSAGE: dict[str, Any] = {
    "id": "sevt_01k9x8h2m4n6p8q0r2s4t6v8w0",
    "seq": 7,
    "turn_id": TURN_ID,
    "at": AT,
    "role": "assistant",
    "kind": "text",
    "content": [{"type": "text", "text": "hello"}],
}
EVENT: dict[str, Any] = {
    "v": 1,
    "id": "sevt_01k9x8h2m4n6p8q0r2s4t6v8w0",
    "seq": 7,
    "session_id": "sesn_01k9x8h2m4n6p8q0r2s4t6v8w0",
    "turn_id": "turn_01k9x8h2m4n6p8q0r2s4t6v8w0",
    "processed_at": "2026-11-21T10:00:00.000000Z",
    "source": "agent",
    "type": "agent.message",
    "content": [{"type": "text", "text": "hello"}],
}
