"""The API as a plain HTTP client sees it: no product code between a test and the wire."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import websockets
from websockets.asyncio.client import ClientConnection

from support.waiting import until

ENDED = ("completed", "failed", "interrupted", "canceled")


class Api(httpx.AsyncClient):
    """Paths are relative to `/api/v1`."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__(
            base_url=f"{url}/api/v1/", headers={"authorization": f"Bearer {token}"}, timeout=90, trust_env=False
        )
        self.token = token
        self.root = url

    async def open_session(self, **body: Any) -> str:
        answer = await self.post("sessions", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["session_id"])

    async def session(self, session_id: str) -> dict[str, Any]:
        answer = await self.get(f"sessions/{session_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def chat(self, session_id: str, prompt: str | None = None, **body: Any) -> dict[str, Any]:
        """Send a prompt and wait for its end."""
        body |= {"prompt": prompt} if prompt is not None else {}
        answer = await self.post(f"sessions/{session_id}/chat", json=body)
        assert answer.status_code in (200, 202), answer.text
        return dict(answer.json())

    async def submit(self, session_id: str, prompt: str) -> str:
        """Queue a prompt; its turn's id."""
        turn = await self.chat(session_id, prompt, stream=True)
        return str(turn["turn_id"])

    async def turn(self, session_id: str, turn_id: str) -> dict[str, Any]:
        answer = await self.get(f"sessions/{session_id}/turns/{turn_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def ended(self, session_id: str, turn_id: str, seconds: float = 60) -> dict[str, Any]:
        async def look() -> dict[str, Any] | None:
            turn = await self.turn(session_id, turn_id)
            return turn if turn["status"] in ENDED else None

        return await until(look, f"the end of {turn_id}", seconds)

    async def has_status(self, session_id: str, *statuses: str, seconds: float = 60) -> dict[str, Any]:
        async def look() -> dict[str, Any] | None:
            session = await self.session(session_id)
            return session if session["status"] in statuses else None

        return await until(look, f"{session_id} to be {' or '.join(statuses)}", seconds)

    async def events(self, session_id: str, **query: Any) -> list[dict[str, Any]]:
        """The whole record, or what the query leaves of it."""
        answer = await self.get(f"sessions/{session_id}/events", params={"limit": 1000, **query})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["data"])

    async def has_event(self, session_id: str, kind: str, seconds: float = 60, **fields: Any) -> dict[str, Any]:
        """The first event of this type with these fields, once it is on record."""

        async def look() -> dict[str, Any] | None:
            found = await self.events(session_id, types=kind)
            return next((e for e in found if all(e.get(k) == v for k, v in fields.items())), None)

        return await until(look, f"{kind} {fields or ''}", seconds)

    @asynccontextmanager
    async def socket(self, session_id: str, **query: Any) -> AsyncIterator[ClientConnection]:
        """The session's WebSocket."""
        options = "&".join(f"{key}={value}" for key, value in query.items())
        url = f"{self.root.replace('http', 'ws', 1)}/api/v1/sessions/{session_id}/stream?{options}"
        headers = {"authorization": f"Bearer {self.token}"}
        async with websockets.connect(
            url, additional_headers=headers, max_size=2**26, proxy=None, close_timeout=1
        ) as connection:
            yield connection

    async def sse(
        self, session_id: str, *, last_event_id: int | None = None, **query: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """The frames of the event stream: `{"id", "event", "data"}`, comments left out."""
        headers = {} if last_event_id is None else {"last-event-id": str(last_event_id)}
        path = f"sessions/{session_id}/events/stream"
        async with self.stream("GET", path, params=query, headers=headers) as answer:
            assert answer.status_code == 200, await answer.aread()
            frame: dict[str, Any] = {}
            async for line in answer.aiter_lines():
                if not line:
                    if "data" in frame:
                        yield {**frame, "data": json.loads(frame["data"])}
                    frame = {}
                elif not line.startswith(":"):
                    name, _, value = line.partition(": ")
                    frame[name] = value
