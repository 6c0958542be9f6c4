"""What `cc-docker run` says before and after the agent's work (pure)."""

import json
import shlex
from typing import Final

from cc_client.locate import Gateway
from cc_client.render.clean import one_line
from cc_client.render.ends import Line

REAL_MODEL: Final = "ANTHROPIC_API_KEY, CLAUDE_CODE_OAUTH_TOKEN or CC_MODEL_URL"


def before(gateway: Gateway, *, started: bool, version: str = "") -> list[Line]:
    """Which gateway and model, and what stands between the agent and this machine."""
    known = gateway.known
    how = "started for this run" if started else "already running" if known else "named by CC_API_URL"
    lines = [_row("gateway", f"{gateway.url} ({how})")]
    if known is None:
        return lines
    if is_scripted(gateway):
        lines.append(
            _row("model", "the scripted model: it plays a script, costs nothing and understands nothing", "yellow")
        )
        again = "" if started else " for the gateway, and start it again"
        lines.append(_row("", f"to reach a real one, set {REAL_MODEL}{again}", "yellow"))
    elif known.model:
        lines.append(_row("model", one_line(known.model)))
    if known.isolated is False:
        lines.append(
            _row("isolation", "none: nothing is isolated, the agent runs as you on this machine", "bold yellow")
        )
        lines.append(_row("", "where bubblewrap is installed, it confines sessions", "yellow"))
    elif known.isolated:
        lines.append(_row("isolation", {"process": "bubblewrap"}.get(known.driver or "", one_line(known.driver or ""))))
    return lines


def is_scripted(gateway: Gateway) -> bool:
    """Whether no real model answers: what it costs is then make-believe."""
    known = gateway.known
    return known is not None and (known.scripted or (known.scripted is None and "scripted" in (known.model or "")))


def after(gateway: Gateway, session_id: str, *, command: str) -> list[Line]:
    """The address, a token, and how to go on with the session."""
    url = f"{gateway.url}/api/v1/sessions/{session_id}/chat"
    body = json.dumps({"prompt": "and now say goodbye"})
    curl = (
        f'curl -sS {shlex.quote(url)} -H "Authorization: Bearer $CC_TOKEN"'
        f" -H 'Content-Type: application/json' -d {shlex.quote(body)}"
    )
    return [
        _row("API", f"{gateway.url}/api/v1 (reference: {gateway.url}/docs)"),
        _row("session", session_id),
        ("\nGo on with the session from another terminal:\n\n", "dim"),
        (f"{command} chat {session_id}\n", ""),
        ("\nor over the API, with this token:\n\n", "dim"),
        (f"export CC_TOKEN={shlex.quote(gateway.token)}\n{curl}\n", ""),
    ]


def _row(label: str, text: str, style: str = "") -> Line:
    return f"{label:<10} {text}\n", style or "dim"
