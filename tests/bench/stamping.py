"""A shim around `claude` that notes when each line left it, without a change to the product.

How a line is timed: the gateway is told of the shim as its `claude` (`CC_CLAUDE_BINARY`; in a container it lies over the
binary). The shim starts the real one, which reads the wrapper's pipe itself, and passes its stdout on, byte for byte.
Right before it writes a chunk to the wrapper's pipe it reads the clock: that is the moment at which `claude` would have
written it. Moments and lines go to a file in the session's `claude` folder, after the chunk has been passed on. The clock
is CLOCK_MONOTONIC, which all processes of a machine share, containers included, and which nobody sets.

How a line is found again at the listener: every line of `claude` has a uuid of its own. The listener notes when an event
came; afterwards the record is read with the raw lines beside the events (`raw=true`), and the uuid tells the line.
Previews have no raw line: the text of a delta is unique, and stands in both.

What the shim costs, another copy through a pipe, comes before the moment and is no part of the figure.
"""

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

STAMPS: Final = "cc-bench-stamps"

SHIM: Final = """#!{python} -IS
import ctypes, os, signal, subprocess, sys, time
claude = [{claude!r}, *sys.argv[1:]]
folder = os.environ.get("CLAUDE_CONFIG_DIR")
if not folder or "--print" not in claude:
    os.execv(claude[0], claude)
libc = ctypes.CDLL(None)
process = subprocess.Popen(claude, stdout=subprocess.PIPE, preexec_fn=lambda: libc.prctl(1, signal.SIGKILL, 0, 0, 0))
signal.signal(signal.SIGINT, lambda *_: process.send_signal(signal.SIGINT))
source, rest = process.stdout.fileno(), b""
with open(os.path.join(folder, {stamps!r}), "ab", buffering=0) as stamps:
    while chunk := os.read(source, 262144):
        now, left = time.monotonic_ns(), chunk
        while left:
            left = left[os.write(1, left):]
        *lines, rest = (rest + chunk).split(b"\\n")
        stamps.write(b"".join(b"%d %s\\n" % (now, line) for line in lines))
os.close(1)
code = process.wait()
sys.exit(code if code >= 0 else 128 - code)
"""


def write_shim(path: Path, *, python: str, claude: str) -> Path:
    """Write the shim for this Python and this `claude`, as they are called where it will run."""
    path.write_text(SHIM.format(python=python, claude=claude, stamps=STAMPS))
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return path


@dataclass(frozen=True)
class Stamps:
    """When lines left `claude` (`time.monotonic_ns`): by uuid, and by the text of a delta."""

    lines: dict[str, int]
    deltas: dict[str, int]

    @classmethod
    def read(cls, claude_dir: Path) -> "Stamps":
        found = cls({}, {})
        for record in (claude_dir / STAMPS).read_bytes().splitlines():
            moment, _, text = record.partition(b" ")
            line: dict[str, Any] = orjson.loads(text)
            if uuid := line.get("uuid"):
                found.lines[uuid] = int(moment)
            delta = line.get("event", {}).get("delta", {}) if line.get("type") == "stream_event" else {}
            if said := delta.get("text"):
                found.deltas[said] = int(moment)
        return found
