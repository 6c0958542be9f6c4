"""`cc-docker sessions`, `show`, `interrupt`, `stop` and `rm`."""

import sys
from datetime import UTC, datetime

from cc_client.cli.execute import report
from cc_client.cli.resolve import resolve
from cc_client.cli.screen import Screen
from cc_client.client import Client
from cc_client.errors import ApiError, UsageProblem
from cc_client.render.listing import session_line, session_lines, turn_lines


async def list_all(status: str | None, *, as_json: bool) -> None:
    screen = Screen()
    async with Client.discover() as client:
        found = await client.all_sessions(status=status)
    for session in found:
        if as_json:
            screen.json(session.model_dump(mode="json"))
        else:
            screen.pieces(session_line(session, datetime.now(UTC)))
    if not found and not as_json:
        screen.note("no sessions" + (f" that are {status}" if status else "; `cc-docker run PROMPT` opens one"))


async def show(part: str, *, as_json: bool) -> None:
    screen = Screen()
    async with Client.discover() as client:
        session = await client.session(await resolve(client, part))
        turns = await client.all_turns(session.session_id)
    if as_json:
        told = [turn.model_dump(mode="json") for turn in turns]
        screen.json(session.model_dump(mode="json") | {"turns": told})
        return
    screen.pieces(session_lines(session))
    for turn in turns:
        screen.pieces(turn_lines(turn))


async def interrupt(part: str) -> None:
    async with Client.discover() as client:
        session_id = await resolve(client, part)
        turn_id = await client.interrupt(session_id)
    Screen().line(f"interrupting {turn_id}" if turn_id else f"nothing runs in {session_id}")


async def stop(part: str) -> None:
    async with Client.discover() as client:
        session = await client.stop_session(await resolve(client, part))
    Screen().line(f"{session.session_id} is {session.status}")


async def remove(parts: list[str], *, yes: bool) -> int:
    """Delete each; one that fails does not keep the others."""
    screen = Screen()
    status = 0
    async with Client.discover() as client:
        found = list(dict.fromkeys([await resolve(client, part) for part in parts]))
        if not yes and not _agreed(found):
            screen.note("nothing was deleted")
            return 1
        for session_id in found:
            try:
                await client.delete_session(session_id)
            except ApiError as error:
                status = report(error)
            else:
                screen.line(f"deleted {session_id}")
    return status


def _agreed(found: list[str]) -> bool:
    if not sys.stdin.isatty():
        raise UsageProblem("deleting needs a word: nobody is here to ask", hint="--yes deletes without asking")
    asked = f"Delete {', '.join(found)} with its conversation? [y/N] "
    try:
        return input(asked).strip().lower() in {"y", "yes"}
    except EOFError:
        return False
