"""Puts into the outbox what there is to report. It knows the entries of the protocol, and nothing of where they go."""

from typing import Final, Literal

from cc_protocol.events import ErrorDetail, RetryStatus, SessionError, SetupCompleted, SetupOutput
from cc_protocol.ids import EVENT, new_id
from cc_protocol.outbox import Claim, Fatal, Lines, Ready
from cc_wrapper.translate.meaning import RunError
from cc_wrapper.turn import Turn, interrupted
from cc_wrapper.wire.outbox import Outbox

_MESSAGE_LIMIT: Final = 4000


class Reporter:
    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def lines(self, claims: list[Claim], raw: str | None, turn_id: str | None) -> None:
        self._outbox.put(lambda n: Lines(n=n, turn_id=turn_id, claims=claims, raw=raw))

    def problem(
        self,
        kind: str,
        message: str,
        turn_id: str | None = None,
        *,
        status: Literal["retrying", "exhausted", "terminal"] = "exhausted",
        mcp_server_name: str | None = None,
    ) -> None:
        """A `session.error` of the wrapper's own."""
        detail = ErrorDetail(
            type=kind,
            message=message[:_MESSAGE_LIMIT],
            retry_status=RetryStatus(type=status),
            mcp_server_name=mcp_server_name,
        )
        self.lines([Claim(id=new_id(EVENT), body=SessionError(error=detail))], None, turn_id)

    def setup_output(self, text: str) -> None:
        self.lines([Claim(id=new_id(EVENT), body=SetupOutput(text=text))], None, None)

    def setup_completed(self, exit_code: int | None, seconds: float) -> None:
        body = SetupCompleted(exit_code=exit_code, duration_ms=round(seconds * 1000))
        self.lines([Claim(id=new_id(EVENT), body=body)], None, None)

    def ready(self, version: str, *, resumed: bool) -> None:
        self._outbox.put(lambda n: Ready(n=n, cli_version=version, resumed=resumed))

    def turn_end(self, turn: Turn, error: RunError) -> None:
        self._outbox.put(lambda n: turn.end(n, error=error))

    def never_ran(self, turn_id: str, detail: str) -> None:
        self._outbox.put(lambda n: interrupted(n, turn_id, detail))

    def fatal(self, code: str, message: str) -> None:
        self._outbox.put(lambda n: Fatal(n=n, code=code, message=message[:_MESSAGE_LIMIT]))
