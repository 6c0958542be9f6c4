"""Hands a session its next turn.

A turn is committed as running on one incarnation before its command is sent, and the command is sent again only to that
incarnation: so a prompt never runs on two.
"""

from typing import Any

from cc_gateway.models import Session, SessionStatus, TurnState
from cc_gateway.redis.bus import Bus
from cc_gateway.services.recorder import Recorder
from cc_gateway.stores import sessions, turns
from cc_gateway.stores.record import Recording
from cc_protocol.commands import Command, Configure, Interrupt, Prompt
from cc_protocol.events import StatusRunning, TurnStarted


async def hand_over(recorder: Recorder, bus: Bus, session: Session, turn: TurnState) -> None:
    """Start the turn on the session's incarnation, and tell its wrapper."""
    async with recorder.recording(session.id) as recording:
        started = await start(recording, session, turn)
    if started:
        await send_prompt(recorder, bus, session, turn)


async def start(recording: Recording, session: Session, turn: TurnState) -> bool:
    """Put on record that the turn runs on the session's incarnation: its prompt may be sent once that is committed.

    False where it cannot: another gateway has ended the incarnation since `session` was read, or another turn runs.
    """
    if recording.incarnation != session.incarnation:
        return False
    if not await turns.start(recording.connection, turn.id, session.incarnation):
        return False
    await sessions.change(recording.connection, session.id, status=SessionStatus.RUNNING, idle_since=None)
    recording.append(TurnStarted(incarnation=session.incarnation, attempt=turn.attempt + 1), turn_id=turn.id)
    recording.append(StatusRunning(), turn_id=turn.id)
    return True


async def send_prompt(recorder: Recorder, bus: Bus, session: Session, turn: TurnState) -> None:
    """Tell the wrapper (again) which turn it has, and under which settings; it takes a turn once."""
    async with recorder.database.read() as connection:
        content = await turns.content(connection, turn.id)
    await send(bus, session, turn.id, content)


async def send(bus: Bus, session: Session, turn_id: str, content: list[dict[str, Any]]) -> None:
    config, commands = session.config, list[Command]()
    if config.model or config.permission_mode:
        commands.append(
            Configure(incarnation=session.incarnation, model=config.model, permission_mode=config.permission_mode)
        )
    commands.append(Prompt(incarnation=session.incarnation, turn_id=turn_id, content=content))
    await bus.hand_over(session.id, commands)


async def send_interrupt(bus: Bus, session: Session, turn: TurnState) -> None:
    await bus.send(session.id, Interrupt(incarnation=session.incarnation, turn_id=turn.id))
