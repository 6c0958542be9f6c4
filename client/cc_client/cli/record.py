"""`cc-docker events`, `messages` and `logs`: the record of a session, and what its wrapper wrote."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from cc_client.cli.resolve import resolve
from cc_client.cli.screen import Screen
from cc_client.client import Client
from cc_client.errors import UsageProblem
from cc_client.models import Event
from cc_client.render.clean import clean
from cc_client.render.lines import event_line
from cc_client.render.listing import message_lines


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events, and how."""

    follow: bool = False
    after: int = 0
    types: str | None = None
    json: bool = False
    raw: bool = False

    @property
    def kinds(self) -> list[str]:
        return [kind.strip() for kind in (self.types or "").split(",") if kind.strip()]


async def events(part: str, wanted: Wanted) -> None:
    """Print them; with `follow` until Ctrl-C, or until the session is deleted."""
    if wanted.raw and wanted.follow:
        raise UsageProblem("--raw does not go with --follow", hint="raw lines are read from the record: leave one out")
    screen = Screen()
    async with Client.discover() as client, aclosing(_events(client, await resolve(client, part), wanted)) as found:
        async for event in found:
            if wanted.json:
                screen.json(event.data)
                continue
            screen.pieces([_ended(event_line(event, screen.width))])
            if event.data.get("raw"):
                screen.line("       " + clean(str(event.data["raw"])), "dim")


async def _events(client: Client, session_id: str, wanted: Wanted) -> AsyncGenerator[Event, None]:
    if not wanted.follow:
        async for event in client.all_events(session_id, after=wanted.after, types=wanted.kinds, raw=wanted.raw):
            yield event
        return
    async with aclosing(client.follow(session_id, wanted.after, previews=False)) as items:
        async for item in items:
            if isinstance(item, Event) and (not wanted.kinds or item.type in wanted.kinds):
                yield item


async def logs(part: str, tail: int) -> None:
    screen = Screen()
    async with Client.discover() as client:
        session_id = await resolve(client, part)
        text = await client.logs(session_id, tail=tail)
    for line in text.splitlines():
        screen.line(clean(line))
    if not text:
        screen.note("nothing was written")


async def messages(part: str, *, as_json: bool) -> None:
    """Print the conversation from its beginning."""
    screen = Screen()
    async with Client.discover() as client:
        async for message in client.all_messages(await resolve(client, part)):
            if as_json:
                screen.json(message.model_dump(mode="json"))
            else:
                screen.pieces(message_lines(message))


def _ended(line: tuple[str, str]) -> tuple[str, str]:
    return line[0] + "\n", line[1]
