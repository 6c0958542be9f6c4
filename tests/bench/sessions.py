"""Sessions under measurement: opened until they are ready, deleted until nothing of them is left."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection

from cc_protocol.launch import SESSION_FILE, Launch
from support.api import Api
from support.gateway import GatewayProcess
from support.waiting import until

GONE_SECONDS = 30.0
BROKEN = ("session.status_failed", "turn.failed", "turn.interrupted", "turn.canceled")


class Broken(RuntimeError):
    """What was to be measured did not happen."""


@asynccontextmanager
async def session(gateway: GatewayProcess, **body: Any) -> AsyncIterator[tuple[Api, str]]:
    """A session that is ready, with a client for it."""
    async with gateway.api() as api:
        session_id = await api.open_session(**body)
        try:
            state = await api.has_status(session_id, "idle", "failed")
            if state["status"] == "failed":
                raise Broken(f"the session did not start: {state.get('reason')}")
            yield api, session_id
        finally:
            await deleted(gateway, api, session_id)


async def deleted(gateway: GatewayProcess, api: Api, session_id: str) -> None:
    """Delete a session, and wait until its end costs no processor time any more: its folder goes last."""
    await api.delete(f"sessions/{session_id}")

    async def look() -> bool:
        return not (gateway.data_dir / "sessions" / session_id).exists()

    await until(look, f"{session_id} to be gone", GONE_SECONDS)


async def next_event(socket: ClientConnection, kind: str) -> dict[str, Any]:
    """The next event of this type; raises `Broken` where the session or the turn has failed."""
    while True:
        event: dict[str, Any] = orjson.loads(await socket.recv())
        if event["type"] == kind:
            return event
        if event["type"] in BROKEN or event["type"] == "stream.error":
            raise Broken(f"{event['type']}: {event.get('reason') or event.get('error')}")


def launch_of(gateway: GatewayProcess, session_id: str) -> Launch:
    """What the session's wrapper was told to start."""
    return Launch.model_validate_json((gateway.data_dir / "run" / session_id / SESSION_FILE).read_bytes())
