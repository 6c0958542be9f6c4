"""What the kernel tells of the memory of the place in which we run: its limit, and whom it killed for want of it.

Source: the control groups of Linux, `memory.events` and `memory.max` (version 2), `memory.oom_control` and
`memory.limit_in_bytes` (version 1). Where no limit is set, nothing is told: the counts are then those of the machine.
"""

from contextlib import suppress
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/sys/fs/cgroup")
_FILES: Final = (
    ("memory.max", "memory.events"),
    ("memory/memory.limit_in_bytes", "memory/memory.oom_control"),
)
_UNLIMITED: Final = 1 << 50
"""Version 1 says "no limit" by a number near 2⁶³."""


def limit_and_kills(root: Path = _ROOT) -> tuple[int, int]:
    """The limit in bytes, and how many processes were killed because of it; (0, 0) where there is no limit."""
    for limit_file, events_file in _FILES:
        with suppress(OSError, ValueError):
            limit = int((root / limit_file).read_text())  # "max" where there is none
            if limit < _UNLIMITED:
                return limit, _kills((root / events_file).read_text())
    return 0, 0


def _kills(events: str) -> int:
    counts = dict(line.split(maxsplit=1) for line in events.splitlines() if " " in line)
    return int(counts.get("oom_kill", 0))
