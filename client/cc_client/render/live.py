"""The agent's work as a person follows it: a state machine from events and previews to styled pieces, no I/O.

It decides what is shown, in which order and with which gaps; who writes the pieces, and where, it does not know.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

from cc_client.models import Event, Preview
from cc_client.render.clean import clean, one_line
from cc_client.render.ends import Line, error_line, status_line, turn_end
from cc_client.render.stream import Streamed, whole
from cc_client.render.values import about, plural, text_of
from cc_client.render.wrap import Wrapper

_BULLETS: Final[dict[str, tuple[str, str, str]]] = {
    "agent.message": ("● ", "cyan", ""),
    "agent.thinking": ("✻ ", "dim", "dim italic"),
}
_CALLS: Final = {"agent.tool_use", "agent.mcp_tool_use"}
_RESULTS: Final = {"agent.tool_result": "tool_use_id", "agent.mcp_tool_result": "mcp_tool_use_id"}
_ENDS: Final = {"turn.completed", "turn.failed", "turn.interrupted", "turn.canceled"}
_RESULT_LINES: Final = 5
_NARROW: Final = 40
_UNBOUNDED: Final = 200


class LiveView:
    """Feed it what `Client.follow` yields; each call answers with the (text, style) pieces to write.

    `width`: columns of the terminal, 0 where lines need no end; `own`: turns whose prompt is on the screen already;
    `scripted`: no model is paid.
    """

    def __init__(self, width: int = 0, own: Collection[str] = (), *, scripted: bool = False) -> None:
        self._width = width if width == 0 else max(width, _NARROW)
        self._own = own
        self._scripted = scripted
        self._blocks: dict[str, Streamed] = {}
        self._open: str | None = None  # the block that streams
        self._mid_line = False
        self._last = ""  # the kind of thing that was written last
        self._calls: dict[str, str] = {}
        self._last_call: str | None = None
        self._said = False
        self._requests = 0
        self._context: Mapping[str, Any] | None = None
        self._told: str | None = None
        self._unfinished = ""  # a line of the setup script whose end has not come yet

    def take(self, item: Event | Preview) -> list[Line]:
        """What this event or preview adds to the screen."""
        data, kind = item.data, item.type
        if isinstance(item, Preview):
            return self._preview(data)
        if kind in _BULLETS:
            return self._text(item.id, kind, _words(kind, data), nested=bool(data.get("parent_tool_use_id")))
        if kind in _CALLS:
            return self._call(item.id, data)
        if kind in _RESULTS:
            return self._result(str(data.get(_RESULTS[kind])), data)
        if kind in _ENDS:
            return self._end(data)
        return self._other(kind, item)

    def notice(self, text: str) -> list[Line]:
        """A word of the command's own, between the agent's."""
        return [*self._gap("notice"), (f"· {text}\n", "yellow")]

    # ------------------------------------------------------------ texts

    def _preview(self, data: Mapping[str, Any]) -> list[Line]:
        if data["type"] == "event_start":
            target = data.get("event") or {}
            if target.get("type") in _BULLETS:
                self._blocks[str(target.get("id"))] = Streamed(target["type"], Wrapper(self._width))
            return []
        block_id = str(data.get("event_id"))
        block, piece = self._blocks.get(block_id), _delta(data)
        if block is None or not piece:
            return []
        if self._open not in {None, block_id}:
            block.live = False  # two at once are one too many: this one is shown when it is whole
            return []
        written = block.piece(piece)
        if not written:
            return []
        begin = [] if self._open == block_id else self._bullet(block.kind)
        self._open, self._mid_line = block_id, True
        return [*begin, (written, _BULLETS[block.kind][2])]

    def _bullet(self, kind: str, indent: str = "") -> list[Line]:
        bullet, style, _ = _BULLETS[kind]
        return [*self._gap(kind), (indent + bullet, style)]

    def _text(self, event_id: str, kind: str, words: str, *, nested: bool) -> list[Line]:
        block = self._blocks.pop(event_id, None)
        if kind == "agent.message" and words.strip():
            self._said = True
        style = _BULLETS[kind][2]
        if block is not None and self._open == event_id:
            rest = block.rest(words)
            if rest is not None:
                self._open = None
                return [(rest + "\n", style)] if rest or self._mid_line else []
        before = self._close() if self._open == event_id else []
        text = whole(text_of(words), Wrapper(self._width, "    " if nested else "  "))
        return [*before, *self._bullet(kind, "  " if nested else ""), (text + "\n", style)] if text else before

    def _close(self) -> list[Line]:
        """Give up on the block that streams: its rest will not come, or not as it began."""
        out, self._open = self._pause(), None
        return out

    def _pause(self) -> list[Line]:
        """End the line of the block that streams, so that something else can be written."""
        block = self._blocks.get(self._open or "")
        if not self._mid_line or self._open is None:
            return []
        self._mid_line = False
        return [(block.pause(), _BULLETS[block.kind][2]) if block else ("\n", "")]

    # ------------------------------------------------------------ tools

    def _call(self, call_id: str, data: Mapping[str, Any]) -> list[Line]:
        server, name = data.get("mcp_server_name"), str(data.get("name", ""))
        shown = one_line(f"{server}: {name}" if server else name)
        label = one_line(f"{shown} {about(name, data.get('input'))}", 40)
        self._calls[call_id], self._last_call = label, call_id
        indent = "    " if data.get("parent_tool_use_id") else "  "
        lead = f"{indent[2:]}⏺ {shown}"
        rest = one_line(about(name, data.get("input")), self._room(len(lead) + 2))
        return [*self._gap("call"), (lead, "bold"), (f"  {rest}\n" if rest else "\n", "")]

    def _result(self, call_id: str, data: Mapping[str, Any]) -> list[Line]:
        name = self._calls.pop(call_id, "")
        ambiguous = bool(name) and (call_id != self._last_call or bool(self._calls))
        indent = "    " if data.get("parent_tool_use_id") else "  "
        lines = [line.rstrip() for line in text_of(data.get("content") or []).strip("\n").expandtabs(4).split("\n")]
        shown, more = lines[:_RESULT_LINES], len(lines) - _RESULT_LINES
        if more == 1:
            shown, more = lines, 0
        cut = [self._cut(line, len(indent) + 2) for line in shown]
        if not "".join(cut):
            cut = ["(no output)"]
        if ambiguous:
            cut[0] = f"{name}: {cut[0]}"
        if more > 0:
            cut.append(f"… {plural(more, 'more line')}")
        failed = bool(data.get("is_error"))
        mark = (f"{indent}✗ ", "red") if failed else (f"{indent}✓ ", "green")
        text = f"\n{indent}  ".join(cut)
        return [*self._gap("result"), mark, (text + "\n", "red" if failed else "dim")]

    def _cut(self, line: str, taken: int) -> str:
        room = self._room(taken)
        return line if len(line) <= room else line[: room - 1] + "…"

    def _room(self, taken: int) -> int:
        return max(20, (self._width or _UNBOUNDED) - taken)

    # ------------------------------------------------------------ the setup script

    def _setup_output(self, text: str) -> list[Line]:
        """The lines that end in this piece."""
        *lines, self._unfinished = (self._unfinished + text).replace("\r\n", "\n").split("\n")
        shown = [self._cut(clean(line.rpartition("\r")[2]).expandtabs(4).rstrip(), 2) for line in lines]
        return [*self._gap("notice"), ("".join(f"  {line}\n" for line in shown), "dim")] if shown else []

    # ------------------------------------------------------------ the rest

    def _end(self, data: Mapping[str, Any]) -> list[Line]:
        result, unsaid = data.get("result"), not self._said
        said: list[Line] = []
        if unsaid and data["type"] == "turn.completed" and isinstance(result, str):
            said = self._text("", "agent.message", result, nested=False)
        line, style = turn_end(data, self._context, requests=self._requests, told=self._told, scripted=self._scripted)
        out = [*said, *self._gap("end"), (whole(line, Wrapper(self._width)) + "\n", style)]
        self._open = None
        self._blocks.clear()
        self._calls.clear()
        self._said, self._told, self._context, self._requests = False, None, None, 0
        return out

    def _other(self, kind: str, event: Event) -> list[Line]:
        data = event.data
        if kind == "session.setup_output":
            return self._setup_output(str(data.get("text") or ""))
        rest = self._setup_output("\n") if self._unfinished else []
        return [*rest, *self._quiet(kind, event)]

    def _quiet(self, kind: str, event: Event) -> list[Line]:
        data = event.data
        if kind == "user.message":
            return self._prompt(data, typed=event.turn_id in self._own)
        if kind == "span.model_request_start":
            self._requests += 1
            return []
        if kind == "span.model_request_end":
            return self._close()
        if kind == "session.usage":
            self._context = data.get("context")
            return []
        if kind == "session.error":
            error = data.get("error")
            self._told = one_line(str(error.get("message", ""))) if isinstance(error, Mapping) else None
            line: Line | None = error_line(error)
        else:
            line = status_line(data)
        return [] if line is None else [*self._gap("notice"), (line[0] + "\n", line[1])]

    def _prompt(self, data: Mapping[str, Any], *, typed: bool) -> list[Line]:
        if typed:  # here, and so on the screen already
            self._last = "prompt"
            return []
        text = whole(text_of(data.get("content")), Wrapper(self._width))
        return [*self._gap("prompt"), ("› ", "bold"), (text + "\n", "bold")]

    def _gap(self, kind: str) -> list[Line]:
        """What stands between the last thing and this one: the end of an open line, and mostly an empty line."""
        out = self._pause()
        close = (kind == self._last and kind not in _BULLETS) or kind == "result" or not self._last
        self._last = kind
        return out if close else [*out, ("\n", "")]


def _words(kind: str, data: Mapping[str, Any]) -> str:
    if kind == "agent.thinking":
        return str(data.get("thinking") or "")
    content = data.get("content") or []
    blocks = content if isinstance(content, list) else [content]
    return "\n".join(str(block.get("text", "")) if isinstance(block, dict) else str(block) for block in blocks)


def _delta(data: Mapping[str, Any]) -> str:
    content = (data.get("delta") or {}).get("content") or {}
    return str(content.get(content.get("type"), "") or "") if isinstance(content, dict) else ""
