"""The baseline: the same `claude`, with the flags and the environment that the wrapper gives it, spoken to directly.

The wrapper's own functions make the command line, the environment and the generated files, from the launch file of a
session that runs: so the two sides cannot drift apart. What is left out is all that CC-Docker adds.
"""

import asyncio
import contextlib
import os
import time
import uuid
from pathlib import Path
from typing import Any

import orjson

from bench.places import Place
from cc_protocol.ids import SESSION, new_id
from cc_protocol.launch import Launch
from cc_wrapper.claude.command import Choices, Endpoint, command, environment
from cc_wrapper.claude.identity import Identity
from cc_wrapper.configure.apply import configure
from cc_wrapper.turns import prompt_line

ANSWER_SECONDS = 60.0
LONGEST_LINE = 64 * 1024 * 1024


class BareClaude:
    """One `claude` in stream-json mode, which stays for many turns."""

    def __init__(self, process: asyncio.subprocess.Process, name: str, started_at: float) -> None:
        self._process = process
        self._started_at = started_at
        self.name = name
        """What its processes carry in their environment."""

    @classmethod
    async def start(cls, like: Launch, place: Place, folder: Path, model_url: str) -> "BareClaude":
        """Start one in folders of its own, as the session with this launch file was started."""
        name = new_id(SESSION)
        workspace, claude_dir = folder / name / "workspace", folder / name / "claude"
        for made in (workspace, claude_dir, claude_dir / "home"):
            made.mkdir(parents=True)
        here = like.model_copy(update={"session_id": name, "workspace": str(workspace), "claude_dir": str(claude_dir)})
        configure(here)
        inside = place.inside(here)
        conversation = Identity(name, here.claude_dir).conversation()
        argv = command(inside, Choices(inside.model, inside.permission_mode), conversation)
        inherited = {"HOME": f"{inside.claude_dir}/home", "PATH": os.environ["PATH"], "CC_SESSION_MARK": name}
        env = environment(inside, Endpoint(model_url, "bare"), inherited)
        started_at = time.monotonic()
        process = await place.spawn(argv, env, here, limit=LONGEST_LINE)
        return cls(process, name, started_at)

    async def initialized(self) -> float:
        """Seconds from its start to its answer to `initialize`, which is when a prompt can be sent."""
        request = {"type": "control_request", "request_id": "bare", "request": {"subtype": "initialize", "hooks": None}}
        await self._write(orjson.dumps(request))
        await self._until(lambda line: line.get("type") == "control_response")
        return time.monotonic() - self._started_at

    async def turn(self, prompt: str) -> tuple[float, float]:
        """Seconds from writing a prompt to its `result` line, and to the line that says that `claude` is free again."""
        begun = time.monotonic()
        await self._write(prompt_line([{"type": "text", "text": prompt}], str(uuid.uuid4())))
        await self._until(lambda line: line.get("type") == "result")
        answered = time.monotonic() - begun
        await self._until(lambda line: line.get("state") == "idle")
        return answered, time.monotonic() - begun

    async def close(self) -> None:
        """End it as the wrapper does: the end of its input, and then by force."""
        assert self._process.stdin
        self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await self._process.wait()
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _write(self, line: bytes) -> None:
        assert self._process.stdin
        self._process.stdin.write(line + b"\n")
        await self._process.stdin.drain()

    async def _until(self, found: Any) -> None:
        assert self._process.stdout
        async with asyncio.timeout(ANSWER_SECONDS):
            while line := await self._process.stdout.readline():
                if found(orjson.loads(line)):
                    return
        raise RuntimeError(f"the bare claude ended with {await self._process.wait()}")
