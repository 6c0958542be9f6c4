"""Runs a command's coroutine and turns every known error into one or two lines and an exit status.

0 done · 1 failed · 2 wrong usage · 130 interrupted. A traceback never reaches the user, unless CC_DEBUG asks for it.
"""

import asyncio
import os
import sys
from collections.abc import Coroutine
from typing import Any, Final

import typer

from cc_client.cli.screen import Screen
from cc_client.errors import ApiError, CCClientError, GatewayStartError, UsageProblem
from cc_client.render.clean import clean, one_line

INTERRUPTED: Final = 130
_HINTS: Final = {
    "unauthenticated": "is CC_TOKEN right, and not too old? `cc-docker token` makes a new one",
    "invalid_token": "is CC_TOKEN right, and not too old? `cc-docker token` makes a new one",
    "unexpected_answer": "is this the address of a CC-Docker gateway?",
    "not_supported_yet": "this version of the gateway cannot do that yet",
}


def execute(work: Coroutine[Any, Any, int | None]) -> None:
    """Run a command to its end and leave with its status."""
    try:
        status = asyncio.run(work)
    except CCClientError as error:
        raise typer.Exit(report(error)) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(status or 0)


def report(error: CCClientError) -> int:
    """Say what went wrong and what to do; the exit status that fits."""
    screen = Screen()
    if isinstance(error, GatewayStartError) and error.output:
        screen.note(clean(error.output), "")
    for line in explanation(error):
        screen.note(line, "red" if line.startswith("error: ") else "")
    if isinstance(error, GatewayStartError):
        return error.status
    return 2 if isinstance(error, UsageProblem) else 1


def explanation(error: CCClientError) -> list[str]:
    """An error in one or two lines."""
    code = f" ({error.code})" if isinstance(error, ApiError) else ""
    lines = [f"error: {one_line(error.message)}{code}"]
    hint = error.hint or (_hint(error) if isinstance(error, ApiError) else None)
    return [*lines, f"  {hint}"] if hint else lines


def _hint(error: ApiError) -> str | None:
    if error.status >= 500 and error.request_id:
        return f"the gateway's log says more under {one_line(error.request_id)}"
    if error.retry_after:
        return f"try again in {error.retry_after:.0f} s"
    return _HINTS.get(error.code)


def last_resort(error: Exception) -> int:
    """An error that nobody expected: a fault of ours."""
    if os.environ.get("CC_DEBUG"):
        raise error
    if isinstance(error, BrokenPipeError):  # the reader of our output has left: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    sys.stderr.write(f"error: {type(error).__name__}: {one_line(str(error), 300)}\n")
    sys.stderr.write("  this is a fault of cc-docker; CC_DEBUG=1 shows where\n")
    return 1
