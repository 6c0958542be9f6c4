"""What the control groups tell of memory, in both of their versions."""

from pathlib import Path

import pytest

from cc_wrapper.claude.memory import limit_and_kills

V2 = {"memory.max": "104857600\n", "memory.events": "low 0\nhigh 0\nmax 7\noom 1\noom_kill 3\noom_group_kill 0\n"}
V1 = {
    "memory/memory.limit_in_bytes": "104857600\n",
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
}


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (V2, (104857600, 3)),
        (V1, (104857600, 3)),
        (V2 | {"memory.max": "max\n"}, (0, 0)),
        (V1 | {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, (0, 0)),
        (V1 | {"memory/memory.oom_control": "oom_kill_disable 0\n"}, (104857600, 0)),
        ({"memory.max": "rubbish"}, (0, 0)),
        ({}, (0, 0)),
    ],
    ids=["version 2", "version 1", "no limit in 2", "no limit in 1", "an old kernel", "rubbish", "nothing"],
)
def test_the_limit_and_the_kills_are_read(files: dict[str, str], told: tuple[int, int], tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert limit_and_kills(tmp_path) == told
