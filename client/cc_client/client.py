"""The client: one typed method an endpoint of the gateway's API, and `follow` for its live events."""

import math
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote

from pydantic import BaseModel

from cc_client import locate
from cc_client.models import Accepted, Event, EventPage, Message, Page, Preview, Session, Turn
from cc_client.streaming import Follower
from cc_client.transport import API, Transport

Json = dict[str, Any]
Item = TypeVar("Item", bound=BaseModel)


class Client:
    """A connection to one gateway; use it as an async context manager.

    `url`: the gateway's address, such as `http://127.0.0.1:8080`; `token`: a user token; `timeout`: longest silence of
    an answer, in seconds; `retries`: further tries after a connection error or a 503.

    Every method raises `ApiError` where the gateway refuses, and `Unreachable` where it does not answer.
    """

    def __init__(self, url: str, token: str, *, timeout: float = 30.0, retries: int = 3) -> None:
        self._http = Transport(url, token, timeout=timeout, retries=retries)

    @classmethod
    def discover(cls) -> "Client":
        """A client of the gateway that `CC_API_URL` and `CC_TOKEN` name, else of the one that runs on this machine's
        data folder. Raises `NoGateway`."""
        gateway = locate.find()
        return cls(gateway.url, gateway.token)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.close()

    # ------------------------------------------------------------ sessions

    async def create_session(
        self,
        *,
        prompt: str | None = None,
        title: str | None = None,
        workspace: str | Json | None = None,
        config: Json | None = None,
        metadata: Json | None = None,
        idempotency_key: str | None = None,
    ) -> Session:
        """Open a session. With `prompt`, its first turn is queued at once (`turn_id` of the answer).

        `workspace`: name of a persistent one, or as in the API (`{"type": "git", "git_repo": …}`); without, the
        session's files go with it. `config`: model,
        permission_mode, system_prompt, setup, timeout_seconds, … as in the API's `SessionConfig`.
        """
        body = _given(prompt=prompt, title=title, config=_given(**config or {}) or None, metadata=metadata)
        if workspace is not None:
            body["workspace"] = {"type": "persistent", "id": workspace} if isinstance(workspace, str) else workspace
        return Session.model_validate(await self._http.json("POST", f"{API}/sessions", body=body, key=idempotency_key))

    async def sessions(
        self,
        *,
        status: str | None = None,
        metadata: dict[str, str] | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[Session]:
        """One page of your sessions, newest first."""
        query: Json = {"status": status, "limit": limit, "cursor": cursor}
        query |= {f"metadata.{name}": value for name, value in (metadata or {}).items()}
        return Page[Session].model_validate(await self._http.json("GET", f"{API}/sessions", query=query))

    async def all_sessions(self, *, status: str | None = None, at_most: int = 10_000) -> list[Session]:
        """Your sessions, page by page, up to `at_most`."""
        found: list[Session] = []
        async for session in self._pages(Session, f"{API}/sessions", status=status):
            found.append(session)
            if len(found) >= at_most:
                break
        return found

    async def session(self, session_id: str) -> Session:
        """The session as it is now."""
        return Session.model_validate(await self._http.json("GET", _path(session_id)))

    async def update_session(self, session_id: str, changes: Json) -> Session:
        """Change title, metadata (merged by key, None takes a key away), model or permission_mode."""
        return Session.model_validate(await self._http.json("PATCH", _path(session_id), body=changes))

    async def delete_session(self, session_id: str) -> None:
        """Delete the session with its record, and its workspace where that is ephemeral."""
        await self._http.json("DELETE", _path(session_id))

    async def stop_session(self, session_id: str) -> Session:
        """Stop the session; workspace and conversation are kept, and a prompt starts it again."""
        return Session.model_validate(await self._http.json("POST", _path(session_id, "stop"), wait=60.0))

    async def logs(self, session_id: str, *, tail: int = 200) -> str:
        """The last lines that the session's wrapper wrote: for whoever looks for the cause of a failure."""
        return await self._http.text(_path(session_id, "logs"), query={"tail": tail})

    async def interrupt(self, session_id: str, turn_id: str | None = None) -> str | None:
        """Interrupt this turn, or the one that runs. Answers with the turn that is meant; None where none runs."""
        answer = await self._http.json("POST", _path(session_id, "interrupt"), body=_given(turn_id=turn_id))
        return Accepted.model_validate(answer or {}).turn_id

    # ------------------------------------------------------------ turns

    async def chat(
        self,
        session_id: str,
        prompt: str | list[Json],
        *,
        timeout_seconds: float | None = None,
        idempotency_key: str | None = None,
    ) -> Turn:
        """Send a prompt (text, or content blocks) and wait for the end of its turn.

        After `timeout_seconds` the wait ends, the turn goes on, and the answer is a turn that has not `ended`.
        """
        body = _prompt(prompt) | _given(timeout_seconds=timeout_seconds)
        wait = timeout_seconds if timeout_seconds is not None else math.inf
        answer = await self._http.json(
            "POST", _path(session_id, "chat"), body=body, key=idempotency_key, wait=min(wait, 90_000.0)
        )
        return Turn.model_validate(answer)

    async def send(self, session_id: str, prompt: str | list[Json], *, idempotency_key: str | None = None) -> Turn:
        """Queue a prompt and return at once with its turn; `follow` shows what comes of it."""
        body = _prompt(prompt) | {"stream": True}
        return Turn.model_validate(
            await self._http.json("POST", _path(session_id, "chat"), body=body, key=idempotency_key)
        )

    async def turns(
        self, session_id: str, *, status: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> Page[Turn]:
        """One page of the session's turns."""
        query = {"status": status, "limit": limit, "cursor": cursor}
        return Page[Turn].model_validate(await self._http.json("GET", _path(session_id, "turns"), query=query))

    async def all_turns(self, session_id: str) -> list[Turn]:
        """All turns of the session, oldest first."""
        return [turn async for turn in self._pages(Turn, _path(session_id, "turns"))]

    async def turn(self, session_id: str, turn_id: str) -> Turn:
        """The turn as it is now."""
        return Turn.model_validate(await self._http.json("GET", _path(session_id, "turns", turn_id)))

    async def cancel_turn(self, session_id: str, turn_id: str) -> Turn:
        """Cancel a queued turn. `ApiError` with status 409 where it is queued no more."""
        return Turn.model_validate(await self._http.json("DELETE", _path(session_id, "turns", turn_id)))

    # ------------------------------------------------------------ what happened

    async def messages(self, session_id: str, *, limit: int | None = None, cursor: str | None = None) -> Page[Message]:
        """One page of the conversation as a person reads it, oldest first."""
        query = {"limit": limit, "cursor": cursor}
        return Page[Message].model_validate(await self._http.json("GET", _path(session_id, "messages"), query=query))

    def all_messages(self, session_id: str) -> AsyncIterator[Message]:
        """The whole conversation, page by page, oldest first."""
        return self._pages(Message, _path(session_id, "messages"))

    async def events(
        self,
        session_id: str,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int | None = None,
        types: list[str] | None = None,
        order: Literal["asc", "desc"] = "asc",
        raw: bool = False,
    ) -> EventPage:
        """One page of the record: events with `after < seq < before`, of these `types` only."""
        query = {
            "after": after,
            "before": before,
            "limit": limit,
            "types": ",".join(types) if types else None,
            "order": order,
            "raw": "true" if raw else None,
        }
        return EventPage.of(await self._http.json("GET", _path(session_id, "events"), query=query))

    async def all_events(
        self, session_id: str, *, after: int = 0, types: list[str] | None = None, raw: bool = False
    ) -> AsyncIterator[Event]:
        """The record as it is now, page by page, oldest first."""
        cursor: int | None = after
        while cursor is not None:
            page = await self.events(session_id, after=cursor, limit=500, types=types, raw=raw)
            for event in page.data:
                yield event
            cursor = page.next_after

    async def last_seq(self, session_id: str) -> int:
        """Number of the session's newest event: `follow(after=…)` from here shows only what is new."""
        return (await self.events(session_id, limit=1, order="desc")).last_seq

    async def follow(
        self, session_id: str, after: int = 0, *, previews: bool = True, patience: float = 60.0
    ) -> AsyncGenerator[Event | Preview, None]:
        """The session's events after `after`, those recorded so far and then live, without end.

        Each recorded event comes exactly once and in order, through lost connections too; previews come as they can.
        Raises `ApiError` where the gateway refuses, `Unreachable` after `patience` seconds without a connection.
        """
        follower = Follower(
            self._http.url, self._http.headers, session_id, after=after, previews=previews, patience=patience
        )
        async with aclosing(follower.items()) as items:
            async for item in items:
                yield item

    async def _pages(self, kind: type[Item], path: str, **query: Any) -> AsyncGenerator[Item, None]:
        """All items of a list that is read with `cursor`."""
        cursor: str | None = None
        while True:
            page = await self._http.json("GET", path, query={**query, "limit": 200, "cursor": cursor})
            for item in page["data"]:
                yield kind.model_validate(item)
            cursor = page.get("next_cursor")
            if cursor is None:
                return


def _path(session_id: str, *rest: str) -> str:
    return "/".join([API, "sessions", *(quote(part, safe="") for part in (session_id, *rest))])


def _given(**fields: Any) -> Json:
    return {name: value for name, value in fields.items() if value is not None}


def _prompt(prompt: str | list[Json]) -> Json:
    return {"prompt": prompt} if isinstance(prompt, str) else {"content": prompt}
