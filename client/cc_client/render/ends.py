"""How errors, retries and ends of turns read (pure): one styled line each."""

from collections.abc import Mapping
from typing import Any, Final

from cc_client.render.clean import one_line
from cc_client.render.values import cost, count, plural, seconds, tokens

Line = tuple[str, str]
"""A text and its rich style."""

_ENDS: Final[dict[str, Line]] = {
    "turn.completed": ("✓ completed", "bold green"),
    "turn.failed": ("✗ failed", "bold red"),
    "turn.interrupted": ("■ interrupted", "bold yellow"),
    "turn.canceled": ("■ canceled", "bold yellow"),
}


def turn_end(
    data: Mapping[str, Any],
    context: Mapping[str, Any] | None = None,
    *,
    requests: int = 0,
    told: str | None = None,
    scripted: bool = False,
) -> Line:
    """The line that closes a turn: status, why, duration, cost, tokens.

    `requests`: those to the model, where they were counted (the CLI's `num_turns` counts something else). `told`: an
    error that was shown already. `scripted`: what the CLI reckons was never paid.
    """
    head, style = _ENDS[str(data["type"])]
    why = _why(data, told)
    parts = [
        head + (f": {why}" if why else ""),
        seconds(data.get("duration_ms")),
        "" if scripted else cost(data.get("cost_usd")),
        tokens(data.get("usage")),
        plural(requests, "request") if requests else "",
        fill(context, short=True),
    ]
    return " · ".join(part for part in parts if part), style


def _why(data: Mapping[str, Any], told: str | None) -> str:
    error = data.get("error")
    if isinstance(error, Mapping):
        message, status = one_line(str(error.get("message", ""))), error.get("http_status")
        known = message == told or not message
        return one_line(str(error.get("type", ""))) if known else message + (f" (HTTP {status})" if status else "")
    reason, stop = data.get("reason"), data.get("stop_reason")
    if reason:
        return "" if reason == "user" else one_line(str(reason))
    return one_line(str(stop)) if stop and stop != "end_turn" else ""


def fill(context: Mapping[str, Any] | None, *, short: bool = False) -> str:
    """How full the model's context is: `context 12k of 200k (6 %)`, or in short `context 6 %`."""
    if not context or not context.get("used_tokens"):
        return ""
    used, most = int(context["used_tokens"]), context.get("max_tokens")
    if short and most:
        return f"context {100 * used / most:.0f} %"
    return f"context {count(used)}" + (f" of {count(most)} ({100 * used / most:.0f} %)" if most else "")


def error_line(error: Any) -> Line:
    """A `session.error`: a retry with its count and wait, or an error that stays."""
    if not isinstance(error, Mapping):
        return f"✗ {one_line(str(error))}", "red"
    status = error.get("http_status")
    message = one_line(str(error.get("message") or error.get("type") or "error"))
    if status and str(status) not in message:
        message += f" (HTTP {status})"
    retry = error.get("retry_status")
    if not isinstance(retry, Mapping) or retry.get("type") != "retrying":
        return f"✗ {message}", "red"
    attempt, most, wait = error.get("attempt"), error.get("max_retries"), error.get("retry_delay_ms")
    again = "trying again"
    if attempt:
        again += f", {attempt}" + (f" of {most}" if most else "")
    return f"↻ {message}: {again}" + (f", in {seconds(wait)}" if wait else ""), "yellow"


def status_line(data: Mapping[str, Any]) -> Line | None:
    """What a person wants to hear about the session's state; None for what goes without saying."""
    kind, reason = str(data["type"]), one_line(str(data.get("reason") or ""))
    if kind == "session.status_starting":
        again = data.get("incarnation", 1) != 1
        return ("· starting the session again" if again else "· starting the session"), "dim"
    if kind == "session.setup_completed":
        return _setup_end(data)
    if kind == "session.status_failed":
        return f"✗ the session failed: {reason}", "bold red"
    if kind == "session.status_stopped":
        return "· the session was stopped" + (f" ({reason})" if reason != "user" else ""), "dim"
    if kind == "session.status_asleep":
        return "· the session fell asleep; a prompt wakes it", "dim"
    if kind == "session.status_waiting":
        return "· waiting for a person", "yellow"
    if kind == "session.status_terminated":
        return "✗ the session has ended for good", "bold red"
    if kind == "turn.started" and data.get("attempt", 1) != 1:
        return f"· the prompt is handed over again (attempt {data['attempt']})", "yellow"
    if kind == "user.interrupt":
        return "· the turn is being interrupted" + (f" ({reason})" if reason not in {"", "user"} else ""), "yellow"
    if kind == "agent.thread_context_compacted":
        return _compacted(data), "dim"
    return None


def _setup_end(data: Mapping[str, Any]) -> Line:
    code, took = data.get("exit_code"), seconds(data.get("duration_ms"))
    after = f" ({took})" if took else ""
    if code == 0:
        return f"· the setup script is done{after}", "dim"
    return "✗ the setup script " + ("was ended" if code is None else f"failed with exit code {code}") + after, "red"


def _compacted(data: Mapping[str, Any]) -> str:
    before, after = data.get("pre_tokens"), data.get("post_tokens")
    told = f" ({count(before)} → {count(after)} tokens)" if before and after else ""
    return "· the conversation was compacted" + told
