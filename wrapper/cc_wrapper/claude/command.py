"""What `claude` is started with: its command line and its environment (pure).

What a user chose is given as `--flag=value`, one argument each, so that no value can pass for another flag.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cc_protocol.launch import Launch
from cc_wrapper.claude.identity import Conversation
from cc_wrapper.configure.files import APPEND_FILE, MCP_FILE, SYSTEM_FILE

_INHERITED: Final = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "TMPDIR": "/tmp",  # noqa: S108
    "CC_SESSION_MARK": "",  # how the process driver finds what outlives a killed wrapper
}
_LOCAL: Final = "127.0.0.1,localhost"


@dataclass(frozen=True, slots=True)
class Choices:
    """What can be changed while the session runs."""

    model: str | None
    permission_mode: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where `claude` reaches the model, and by which word."""

    url: str
    nonce: str


def command(launch: Launch, choices: Choices, conversation: Conversation) -> list[str]:
    claude_dir = Path(launch.claude_dir)
    argv = [
        launch.claude_binary,
        "--print",
        "--input-format=stream-json",
        "--output-format=stream-json",
        "--verbose",
        "--include-partial-messages",
        "--setting-sources=user",
        "--strict-mcp-config",
        f"--mcp-config={claude_dir / MCP_FILE}",
        f"--append-system-prompt-file={claude_dir / APPEND_FILE}",
        "--system-prompt-snapshot=off",  # a changed configuration counts for a resumed conversation, too
        *conversation.arguments,
        *_permissions(launch, choices.permission_mode),
    ]
    if launch.system_prompt is not None:
        argv.append(f"--system-prompt-file={claude_dir / SYSTEM_FILE}")
    if choices.model:
        argv.append(f"--model={choices.model}")
    if launch.max_turns is not None:
        argv.append(f"--max-turns={launch.max_turns}")
    return argv


def _permissions(launch: Launch, mode: str) -> list[str]:
    argv = []
    if mode == "bypassPermissions" and launch.allow_bypass:
        argv.append("--dangerously-skip-permissions")
    elif mode != "bypassPermissions":
        argv.append(f"--permission-mode={mode}")
    if launch.allow_bypass:
        argv.append("--allow-dangerously-skip-permissions")
    if launch.allowed_tools:
        argv.append(f"--allowedTools={','.join(launch.allowed_tools)}")
    if launch.disallowed_tools:
        argv.append(f"--disallowedTools={','.join(launch.disallowed_tools)}")
    return argv


def environment(launch: Launch, endpoint: Endpoint, inherited: Mapping[str, str]) -> dict[str, str]:
    """Little is inherited, the session's own variables come on top of it, and ours stand above all."""
    return _shared(launch, inherited) | _own(launch, endpoint)


def setup_environment(launch: Launch, inherited: Mapping[str, str]) -> dict[str, str]:
    """What the agent's tools find, too, but for all that has to do with the model: a script has no business with it."""
    env = {name: value for name, value in _shared(launch, inherited).items() if not name.startswith("ANTHROPIC_")}
    return env | {"CLAUDE_CONFIG_DIR": launch.claude_dir}


def _shared(launch: Launch, inherited: Mapping[str, str]) -> dict[str, str]:
    env = {name: inherited.get(name) or default for name, default in _INHERITED.items()}
    env["HOME"] = env["HOME"] or launch.claude_dir
    env["MCP_TIMEOUT"] = str(int(launch.mcp_connect_seconds * 1000))
    env |= launch.env
    for name in ("NO_PROXY", "no_proxy"):
        env[name] = ",".join(filter(None, [launch.env.get(name), _LOCAL]))
    env.pop("IS_SANDBOX", None)
    return env


def _own(launch: Launch, endpoint: Endpoint) -> dict[str, str]:
    own = {
        "CLAUDE_CONFIG_DIR": launch.claude_dir,
        "ANTHROPIC_BASE_URL": endpoint.url,
        "ANTHROPIC_AUTH_TOKEN": endpoint.nonce,
        "CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
    }
    if launch.allow_bypass and os.getuid() == 0:
        own["IS_SANDBOX"] = "1"  # else the CLI refuses to skip permissions as root
    return own
