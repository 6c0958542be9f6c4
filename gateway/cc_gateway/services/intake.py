"""Takes in what a wrapper reports: parses it totally, numbers it, and commits it together with what follows from it.

What comes from a container is a claim. It may say what its agent said and did, that it is ready, and how its own turn
ended; anything else, and anything malformed, is put on record as just that.
"""

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
ENTRY_KINDS = Lines | Ready | TurnEnd | Fatal


@dataclass
class Batch:
    """Entries of one reading, parsed. `ids` are all of them, also those that say nothing new."""

    ids: list[bytes] = field(default_factory=list)
    entries: list[ENTRY_KINDS] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)
    beat: Beat | None = None
    gap: bool = False

    @property
    def last_n(self) -> int | None:
        return self.entries[-1].n if self.entries else None


def parse(raw: list[tuple[bytes, bytes | None]], outbox_n: int, max_bytes: int) -> Batch:
    """Read entries behind number `outbox_n`: what was taken before is skipped, and so is all behind a gap."""
    batch = Batch()
    expected = outbox_n + 1
    for entry_id, data in raw:
        batch.ids.append(entry_id)
        if data is None or len(data) > max_bytes:
            batch.malformed.append("an entry without content" if data is None else f"an entry of {len(data)} bytes")
            continue
        try:
            entry = ENTRY.validate_json(data)
        except ValidationError as error:
            batch.malformed.append(f"{error.errors()[0]['msg']}: {data[:EXCERPT].decode(errors='backslashreplace')}")
            continue
        if isinstance(entry, Beat):
            batch.beat = entry
        elif entry.n == expected:
            batch.entries.append(entry)
            expected += 1
        elif entry.n > expected:
            batch.gap = True
    return batch


async def take(database: Database, session_id: str, fence: Fence, batch: Batch) -> tuple[Fence, list[RecordedEvent]]:
    """Commit a batch. Returns the fence to go on with, and what was recorded.

    A batch that the database refuses is halved until the offender stands alone; that one is recorded escaped.

    Raises:
        Fenced: another relay or incarnation has taken over.
    """
    try:
        return await _commit(database, session_id, fence, batch)
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        if len(batch.entries) <= 1:
            log.error("entry_not_storable", session_id=session_id, error=str(error.orig)[:300])
            return await _commit(database, session_id, fence, batch, escaped=True)
        half = len(batch.entries) // 2
        fence, first = await take(
            database, session_id, fence, Batch(entries=batch.entries[:half], malformed=batch.malformed)
        )
        fence, second = await take(database, session_id, fence, Batch(entries=batch.entries[half:]))
        return fence, first + second


async def _commit(
    database: Database, session_id: str, fence: Fence, batch: Batch, *, escaped: bool = False
) -> tuple[Fence, list[RecordedEvent]]:
    n = batch.last_n or fence.outbox_n
    async with (
        database.write() as connection,
        record.recording_in(connection, session_id, fence=fence, outbox_n=n) as recording,
    ):
        for text in batch.malformed:
            _note(recording, "malformed", text)
        for entry in batch.entries:
            if escaped:
                _note(recording, "not_storable", ascii(entry)[:EXCERPT])
            else:
                await _apply(recording, fence.incarnation, entry)
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
    await sessions.change(
        recording.connection,
        recording.session_id,
        status=SessionStatus.IDLE,
        ready=True,
        failed_starts=0,
        idle_since=now(),
    )
    recording.append(StatusIdle(stop_reason=StopReason(type="end_turn", detail="ready")))


async def _end_turn(recording: Recording, incarnation: int, entry: TurnEnd) -> None:
    turn = await turns.get(recording.connection, recording.session_id, entry.turn_id[:64])
    if turn is None:
        return
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
