"""Plays a wrapper for the driver contract: starts a child of its own session, and obeys or not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

workspace = Path.cwd()
if (workspace / "exit-with-7").exists():
    sys.exit(7)
if (workspace / "stubborn").exists():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("wrapper is up", flush=True)
subprocess.Popen(["sleep", "600"], start_new_session=True)  # what a Bash tool leaves behind
assert (Path(os.environ["CC_RUN_DIR"]) / "session.json").exists()
(workspace / "children-are-up").touch()
if (workspace / "eat-memory").exists():
    eaten = []
    while True:
        eaten.append(bytearray(16 * 2**20))
signal.pause()
