"""The files that are generated before `claude` starts: what they hold, by path (pure).

Those in `claude_dir` are what counts; they are named by flags or are the user level, and are written anew for each
incarnation. Those in the workspace are for the agent and people to see: they have no effect and hold no values of
variables or headers, which may be secrets.
"""

from typing import Any, Final

import orjson

from cc_protocol.launch import Launch, McpServer, StdioServer
from cc_wrapper.configure.prompt import appended_prompt, workspace_memory

MCP_FILE: Final = "cc-docker/mcp.json"
APPEND_FILE: Final = "cc-docker/append-system-prompt.md"
SYSTEM_FILE: Final = "cc-docker/system-prompt.md"
SKILLS: Final = "skills"
STALE: Final = (SKILLS, "settings.local.json", SYSTEM_FILE)
"""What an earlier incarnation, or its agent, may have left in `claude_dir` and must not count any more."""


def claude_files(launch: Launch, memories: dict[str, str]) -> dict[str, str]:
    """What goes into `claude_dir`."""
    files = {
        "settings.json": _json(_settings(launch)),
        ".claude.json": _json({"hasCompletedOnboarding": True, "autoUpdates": False}),
        MCP_FILE: _json({"mcpServers": {name: _server(server) for name, server in launch.mcp_servers.items()}}),
        APPEND_FILE: appended_prompt(launch, memories),
    }
    if launch.system_prompt is not None:
        files[SYSTEM_FILE] = launch.system_prompt
    return files | {f"{SKILLS}/{skill.name}/SKILL.md": skill.content for skill in launch.skills}


def workspace_files(launch: Launch) -> dict[str, str]:
    """What goes into the workspace, where no such file is."""
    servers = {name: _shown_server(server) for name, server in launch.mcp_servers.items()}
    return {
        ".mcp.json": _json({"mcpServers": servers}),
        ".claude/settings.json": _json(_settings(launch)),
        "CLAUDE.md": workspace_memory(launch),
    } | {f".claude/skills/{skill.name}/SKILL.md": skill.content for skill in launch.skills}


def _settings(launch: Launch) -> dict[str, Any]:
    return {
        "$schema": "https://json.schemastore.org/claude-code-settings.json",
        "permissions": {"allow": launch.allowed_tools or [], "deny": launch.disallowed_tools},
        "includeCoAuthoredBy": False,
    }


def _server(server: McpServer) -> dict[str, Any]:
    return server.model_dump(exclude_none=True)


def _shown_server(server: McpServer) -> dict[str, Any]:
    hidden = (
        {"env": _names_only(server.env)}
        if isinstance(server, StdioServer)
        else {"headers": _names_only(server.headers)}
    )
    return _server(server) | hidden


def _names_only(values: dict[str, str]) -> dict[str, str]:
    return {name: f"${{{name}}}" for name in values}


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n"
