"""Takes in what a wrapper reports: parses it totally, numbers it, and commits it together with what follows from it.

What comes from a container is a claim. It may say what its agent said and did, that it is ready, and how its own turn
ended; anything else, and anything malformed, is put on record as just that.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from cc_gateway.models import RecordedEvent, SessionStatus, TurnStatus, now
from cc_gateway.stores import record, sessions, turns
from cc_gateway.stores.engine import Database
from cc_gateway.stores.record import Fence, Recording
from cc_protocol.events import (
    CliEvent,
    Source,
    StatusIdle,
    StopReason,
    TurnCompleted,
    TurnError,
    TurnFailed,
    TurnInterrupted,
)
from cc_protocol.ids import EVENT, TURN, is_id, new_id
from cc_protocol.outbox import ENTRY, Beat, Fatal, Lines, Ready, TurnEnd

log = structlog.get_logger(__name__)

EXCERPT: Final = 64 * 1024
NUMBER: Final = re.compile(rb'\{"kind":"[a-z_]+","n":(\d{1,18})[,}]')
ENTRY_KINDS = Lines | Ready | TurnEnd | Fatal


@dataclass(frozen=True)
class Malformed:
    """An entry that cannot be read; its number, where that much can be."""

    text: str
    n: int | None


Item = ENTRY_KINDS | Malformed


@dataclass
class Batch:
    """Entries of one reading, parsed. `ids` are all of them, also those that say nothing new."""

    ids: list[bytes] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    beat: Beat | None = None
    repeated: bool = False
    """Whether an entry came that is on record already: its wrapper waits for an acknowledgement."""
    gap: bool = False
    """Whether an entry is missing: what stood behind it was left out, and has to be sent again."""


def parse(raw: list[tuple[bytes, bytes | None]], outbox_n: int, max_bytes: int) -> Batch:
    """Read entries behind number `outbox_n`: what was taken before is skipped, and so is all behind a gap."""
    batch = Batch()
    expected = outbox_n + 1
    for entry_id, data in raw:
        batch.ids.append(entry_id)
        item = _read(data, max_bytes)
        if isinstance(item, Beat):
            batch.beat = item
        elif item.n is None or item.n == expected:
            batch.items.append(item)
            expected += item.n is not None
        elif item.n > expected:
            batch.gap = True
        else:
            batch.repeated = True
    return batch


def _read(data: bytes | None, max_bytes: int) -> Item | Beat:
    if data is None:
        return Malformed("an entry without content", None)
    if len(data) > max_bytes:
        return Malformed(f"an entry of {len(data)} bytes; {max_bytes} are taken", _claimed_number(data))
    try:
        entry: ENTRY_KINDS | Beat = ENTRY.validate_json(data)
    except ValidationError as error:
        excerpt = data[:EXCERPT].decode(errors="backslashreplace")
        return Malformed(f"{error.errors(include_input=False)[0]['msg']}: {excerpt}", _claimed_number(data))
    return entry


def _claimed_number(data: bytes) -> int | None:
    """The number of an entry that cannot be read as a whole: without it, all that follows would wait for it for ever."""
    found = NUMBER.match(data[:64])
    return int(found[1]) if found else None


async def take(
    database: Database, session_id: str, fence: Fence, items: list[Item]
) -> tuple[Fence, list[RecordedEvent]]:
    """Commit items in order. Returns the fence to go on with, and what was recorded.

    What cannot be stored is halved until the offender stands alone; that one is recorded escaped, so that nothing that a
    container sends can stop its relay.

    Raises:
        Fenced: another relay or incarnation has taken over.
    """
    try:
        return await _commit(database, session_id, fence, items)
    except (DBAPIError, TypeError, ValueError, OverflowError, RecursionError) as error:
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            raise
        if len(items) <= 1:
            log.error("entry_not_storable", session_id=session_id, error=repr(error)[:300])
            return await _commit(database, session_id, fence, items, escaped=True)
        half = len(items) // 2
        fence, first = await take(database, session_id, fence, items[:half])
        fence, second = await take(database, session_id, fence, items[half:])
        return fence, first + second


async def _commit(
    database: Database, session_id: str, fence: Fence, items: list[Item], *, escaped: bool = False
) -> tuple[Fence, list[RecordedEvent]]:
    n = max([item.n for item in items if item.n is not None], default=fence.outbox_n)
    async with (
        database.write() as connection,
        record.recording_in(connection, session_id, fence=fence, outbox_n=n) as recording,
    ):
        for item in items:
            if isinstance(item, Malformed):
                _note(recording, "malformed", item.text)
            elif escaped:
                _note(recording, "not_storable", ascii(item)[:EXCERPT])
            else:
                await _apply(recording, fence.incarnation, item)
    return Fence(fence.epoch, fence.incarnation, n), recording.appended


def _note(recording: Recording, name: str, text: str) -> None:
    body = CliEvent(name=name, line=text.replace("\x00", "\\u0000"))
    recording.append_raw(new_id(EVENT), body.type, body.model_dump_json(exclude={"type"}).encode(), Source.AGENT, None)


async def _apply(recording: Recording, incarnation: int, entry: ENTRY_KINDS) -> None:
    match entry:
        case Lines():
            _append_claims(recording, entry)
        case Ready():
            await _mark_ready(recording)
        case TurnEnd():
            await _end_turn(recording, incarnation, entry)
        case Fatal():
            await sessions.change(
                recording.connection, recording.session_id, reason=f"{entry.code}: {entry.message}"[:2000]
            )


def _append_claims(recording: Recording, entry: Lines) -> None:
    turn_id = entry.turn_id if entry.turn_id and is_id(entry.turn_id, TURN) else None
    raw = entry.raw.replace("\x00", "\\u0000") if entry.raw else None
    for claim in entry.claims:
        data = claim.body.model_dump_json(exclude={"type"}, exclude_none=True).encode()
        recording.append_raw(claim.id, claim.body.type, data, Source.AGENT, turn_id, raw)
        raw = None  # the line stands beside the first event that it meant


async def _mark_ready(recording: Recording) -> None:
    """The wrapper takes prompts. It says so again when it had to start `claude` anew, perhaps with a turn in hand."""
    session = await sessions.get(recording.connection, recording.session_id)
    if session and session.ready and session.idle_since:
        return  # nothing new, and no reason to count its rest anew: a container could keep itself awake by it
    await sessions.change(recording.connection, recording.session_id, ready=True, failed_starts=0)
    if await turns.running(recording.connection, recording.session_id) is None:
        await rest(recording, StopReason(type="end_turn", detail="ready"))


async def _end_turn(recording: Recording, incarnation: int, entry: TurnEnd) -> None:
    turn = await turns.get(recording.connection, recording.session_id, entry.turn_id[:64])
    if turn is None or (entry.outcome == "interrupted" and not turn.interrupt_reason):
        return  # the wrapper has been told to stop: whoever ends the incarnation knows why, and judges the turn
    facts = entry.model_dump(
        mode="json",
        include={"result", "stop_reason", "usage", "cost_usd", "duration_ms", "num_turns"},
        exclude_none=True,
    )
    status, body, outcome = _outcome(entry, facts, turn.interrupt_reason)
    if await turns.end(recording.connection, turn.id, status, outcome, incarnation=incarnation):
        recording.append(body, turn_id=turn.id)
        await rest(recording, _why_idle(entry))


def _outcome(
    entry: TurnEnd, facts: dict[str, Any], interrupt_reason: str | None
) -> tuple[TurnStatus, TurnCompleted, dict[str, Any]]:
    if entry.outcome == "completed":
        return TurnStatus.COMPLETED, TurnCompleted(**facts), facts
    if entry.outcome == "interrupted":
        reason = interrupt_reason or entry.detail or "interrupted"
        return TurnStatus.INTERRUPTED, TurnInterrupted(reason=reason, **facts), facts | {"reason": reason}
    error = entry.error or TurnError(type="unknown_error", message="the agent gave no reason")
    return TurnStatus.FAILED, TurnFailed(error=error, **facts), facts | {"error": error.model_dump(exclude_none=True)}


def _why_idle(entry: TurnEnd) -> StopReason:
    if entry.outcome == "interrupted":
        return StopReason(type="end_turn", detail="interrupted")
    if entry.outcome == "completed":
        return StopReason(type="refusal" if entry.detail == "refusal" else "end_turn", detail=entry.detail)
    kind = entry.error.type if entry.error else "unknown_error"
    return StopReason(
        type="budget_reached" if kind == "budget_reached" else "retries_exhausted", detail=entry.detail or kind
    )


async def rest(recording: Recording, reason: StopReason) -> None:
    """The session waits for its next prompt."""
    await sessions.change(recording.connection, recording.session_id, status=SessionStatus.IDLE, idle_since=now())
    recording.append(StatusIdle(stop_reason=reason))
