"""Translates the lines of one `claude` process, one after another (pure: no I/O, but a memory for ids).

Above it: `life`, which feeds it and passes on what comes out. It knows the CLI's vocabulary and the protocol's, and
nothing of turns, processes or Redis. It never raises, whatever the line holds.
"""

from collections.abc import Iterable
from typing import Final

from pydantic import JsonValue

from cc_protocol.events import AgentBody, AgentMcpToolUse, AgentToolUse, CliEvent, ContextCompacted
from cc_protocol.ids import EVENT, new_id
from cc_protocol.outbox import Claim
from cc_wrapper.translate.blocks import Call, Calls, McpNames, block_body, result_body
from cc_wrapper.translate.meaning import Meaning, PromptState, StateChange
from cc_wrapper.translate.outcome import exhausted_error, is_api_failure, retry_error, run_result, session_usage
from cc_wrapper.translate.stream import Streams
from cc_wrapper.translate.values import JsonObject, arr, count, dollars, obj, text, word

_SHOWN_OF_UNPARSABLE: Final = 4096


class Translator:
    def __init__(self, mcp_servers: Iterable[str] = ()) -> None:
        self._names = McpNames(mcp_servers)
        self._calls = Calls()
        self._streams = Streams()
        self._total_cost = 0.0
        self._last_error: str | None = None

    def line(self, line: JsonObject) -> Meaning:
        """The meaning of a parsed line."""
        match line.get("type"):
            case "stream_event":
                return self._stream_event(line)
            case "assistant":
                return Meaning(claims=self._assistant(line))
            case "user":
                return Meaning(claims=[] if line.get("isReplay") is True else self._user(line))
            case "system":
                return self._system(line)
            case "result":
                return self._result(line)
            case "command_lifecycle":
                return _lifecycle(line)
            case "control_request" | "control_response" | "control_cancel_request" | "keep_alive":
                return Meaning()
            case _:
                return _as_it_came(line)

    def unparsable(self, shown: str) -> Meaning:
        """A line that is no JSON object that could be passed on."""
        return Meaning(claims=[_claim(CliEvent(name="unparsable", line=shown[:_SHOWN_OF_UNPARSABLE]))])

    def oversize(self, size: int) -> Meaning:
        """A line above the limit: it was not read."""
        return Meaning(claims=[_claim(CliEvent(name="oversize", line={"bytes": size}))])

    def end(self) -> list[Claim]:
        """`claude` is gone: what it left open is closed."""
        return self._streams.end_all()

    def _stream_event(self, line: JsonObject) -> Meaning:
        parent = text(line.get("parent_tool_use_id"))
        meaning = self._streams.take(obj(line.get("event")), parent, self._calls.event_id(parent))
        return _as_it_came(line) if meaning is None else meaning

    def _assistant(self, line: JsonObject) -> list[Claim]:
        parent, message = text(line.get("parent_tool_use_id")), obj(line.get("message"))
        if error := text(line.get("error")):
            self._last_error = error
        before = self._streams.whole(message, parent)
        said = [self._block(obj(block), message, parent) for block in arr(message.get("content"))]
        return [*before, *_all_or_the_line(said, line)]

    def _block(self, block: JsonObject, message: JsonObject, parent: str | None) -> Claim | None:
        body = block_body(block, self._names, text(message.get("model")), self._calls.event_id(parent))
        if body is None:
            return None
        cli_id = body.cli_tool_use_id if isinstance(body, AgentToolUse | AgentMcpToolUse) else None
        event_id = self._streams.event_id(message.get("id"), parent, str(block["type"]), cli_id)
        if cli_id is not None:
            self._calls.add(cli_id, Call(event_id, isinstance(body, AgentMcpToolUse)))
        return Claim(id=event_id, body=body)

    def _user(self, line: JsonObject) -> list[Claim]:
        parent = self._calls.event_id(text(line.get("parent_tool_use_id")))
        blocks = arr(obj(line.get("message")).get("content"))
        bodies = [result_body(obj(block), self._calls, parent) for block in blocks]
        return _all_or_the_line([None if body is None else _claim(body) for body in bodies], line)

    def _system(self, line: JsonObject) -> Meaning:
        match line.get("subtype"):
            case "thinking_tokens":
                return Meaning()
            case "api_retry":
                return Meaning(claims=[*self._streams.end(None, is_error=True), _claim(retry_error(line))])
            case "compact_boundary":
                return Meaning(claims=[_claim(_compacted(obj(line.get("compact_metadata"))))])
            case "session_state_changed":
                return Meaning(_as_it_came(line).claims, signal=StateChange(idle=line.get("state") == "idle"))
            case _:
                return _as_it_came(line)

    def _result(self, line: JsonObject) -> Meaning:
        cost = self._cost(dollars(line.get("total_cost_usd")))
        last_error, self._last_error = self._last_error, None
        result = run_result(line, cost, last_error)
        claims = self._streams.end(None, is_error=True)
        if result.error is not None and is_api_failure(line):
            claims.append(_claim(exhausted_error(result.error)))
        claims.append(_claim(session_usage(line, cost, self._streams.last_request)))
        return Meaning(claims, signal=result)

    def _cost(self, total: float | None) -> float | None:
        """The cost of this run: the CLI tells the process's total, which `/clear` starts anew."""
        if total is None:
            return None
        if total < self._total_cost:
            self._total_cost, self._streams.last_request = 0.0, None
        before, self._total_cost = self._total_cost, total
        return round(total - before, 9)


def _claim(body: AgentBody) -> Claim:
    return Claim(id=new_id(EVENT), body=body)


def _all_or_the_line(claims: list[Claim | None], line: JsonObject) -> list[Claim]:
    """The claims; and the line as it came, where not everything on it had a meaning."""
    meant = [claim for claim in claims if claim is not None]
    return meant if meant and len(meant) == len(claims) else [*meant, *_as_it_came(line).claims]


def _as_it_came(line: JsonObject) -> Meaning:
    words = [text(line.get("type")) or "untyped", text(line.get("subtype"))]
    value: JsonValue = dict(line)
    return Meaning(claims=[_claim(CliEvent(name=word("/".join(filter(None, words))) or "", line=value))])


def _lifecycle(line: JsonObject) -> Meaning:
    uuid, state = text(line.get("command_uuid")), text(line.get("state"))
    return Meaning() if uuid is None or state is None else Meaning(signal=PromptState(uuid, state))


def _compacted(metadata: JsonObject) -> ContextCompacted:
    return ContextCompacted(
        trigger=word(metadata.get("trigger")),
        pre_tokens=count(metadata.get("pre_tokens")),
        post_tokens=count(metadata.get("post_tokens")),
    )
