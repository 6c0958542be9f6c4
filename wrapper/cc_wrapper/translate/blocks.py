"""Content blocks: what the agent says, thinks and calls, and what its tools answer (pure, with state for ids)."""

import re
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from cc_protocol.events import (
    AgentMcpToolResult,
    AgentMcpToolUse,
    AgentMessage,
    AgentThinking,
    AgentToolResult,
    AgentToolUse,
    Content,
)
from cc_wrapper.translate.values import JsonObject, obj, text

Body = AgentMessage | AgentThinking | AgentToolUse | AgentMcpToolUse
ResultBody = AgentToolResult | AgentMcpToolResult

_REMEMBERED_CALLS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call as results and sub-agents refer to it."""

    event_id: str
    mcp: bool


class Calls:
    """From the model's ids of tool calls to the events that tell of them; the oldest are forgotten."""

    def __init__(self) -> None:
        self._calls: OrderedDict[str, Call] = OrderedDict()

    def add(self, cli_id: str, call: Call) -> None:
        self._calls[cli_id] = call
        if len(self._calls) > _REMEMBERED_CALLS:
            self._calls.popitem(last=False)

    def get(self, cli_id: str | None) -> Call | None:
        return None if cli_id is None else self._calls.get(cli_id)

    def event_id(self, cli_id: str | None) -> str | None:
        call = self.get(cli_id)
        return None if call is None else call.event_id


class McpNames:
    """Splits `mcp__SERVER__TOOL`. A server's name may hold `__` itself, so the configured ones are tried first."""

    def __init__(self, servers: Iterable[str]) -> None:
        known = {re.sub(r"[^A-Za-z0-9_-]", "_", server): server for server in servers}
        self._prefixes = sorted(((f"mcp__{name}__", server) for name, server in known.items()), key=_longest_first)

    def split(self, name: str) -> tuple[str, str] | None:
        """Server and tool; None for a tool that is not an MCP server's."""
        for prefix, server in self._prefixes:
            if name.startswith(prefix) and len(name) > len(prefix):
                return server, name.removeprefix(prefix)
        match = re.fullmatch(r"mcp__(.+?)__(.+)", name, re.DOTALL)
        return (match[1], match[2]) if match else None


def _longest_first(pair: tuple[str, str]) -> int:
    return -len(pair[0])


def block_body(block: JsonObject, names: McpNames, model: str | None, parent: str | None) -> Body | None:
    """The event that an assistant's block is; None for a kind without a meaning of its own."""
    match block.get("type"):
        case "text":
            return AgentMessage(content=[block], model=model, parent_tool_use_id=parent)
        case "thinking" | "redacted_thinking":
            return AgentThinking(thinking=text(block.get("thinking")) or "", parent_tool_use_id=parent)
        case "tool_use":
            return _tool_use(block, names, parent)
        case _:
            return None


def _tool_use(block: JsonObject, names: McpNames, parent: str | None) -> AgentToolUse | AgentMcpToolUse | None:
    name, cli_id, given = text(block.get("name")), text(block.get("id")), obj(block.get("input"))
    if name is None or cli_id is None:
        return None
    if split := names.split(name):
        server, tool = split
        return AgentMcpToolUse(
            mcp_server_name=server, name=tool, input=given, cli_tool_use_id=cli_id, parent_tool_use_id=parent
        )
    return AgentToolUse(name=name, input=given, cli_tool_use_id=cli_id, parent_tool_use_id=parent)


def result_body(block: JsonObject, calls: Calls, parent: str | None) -> ResultBody | None:
    """The event that a `tool_result` block is; None where the call is not known."""
    cli_id = text(block.get("tool_use_id"))
    call = calls.get(cli_id)
    if cli_id is None or call is None:
        return None
    content, is_error = as_content(block.get("content")), block.get("is_error") is True
    if call.mcp:
        return AgentMcpToolResult(
            mcp_tool_use_id=call.event_id,
            content=content,
            is_error=is_error,
            cli_tool_use_id=cli_id,
            parent_tool_use_id=parent,
        )
    return AgentToolResult(
        tool_use_id=call.event_id,
        content=content,
        is_error=is_error,
        cli_tool_use_id=cli_id,
        parent_tool_use_id=parent,
    )


def as_content(value: JsonValue) -> Content:
    """Content is a list of blocks everywhere, whatever the CLI wrote."""
    if isinstance(value, list):
        return [block if isinstance(block, dict) else {"type": "text", "text": str(block)} for block in value]
    return [] if value is None else [{"type": "text", "text": value if isinstance(value, str) else str(value)}]
