"""The bench runs, says what it measured in the shape that is promised, and leaves nothing behind. No figure is judged."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from support.waiting import until

TESTS = Path(__file__).parents[1]
FIELDS = {"name", "what", "unit", "figure", "baseline", "against", "ratio", "aim", "met", "details"}

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(300)]


def bench(*arguments: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CC_")}
    return subprocess.Popen(
        [sys.executable, "-m", "bench", "--quick", *arguments],
        env=environment | {"PYTHONPATH": str(TESTS)},
        cwd=TESTS,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_quick_run_prints_a_table_and_writes_its_figures(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    process = bench("--only", "turn,recording,model", "--json", str(file))
    output, progress = process.communicate(timeout=240)
    assert process.returncode == 0, output + progress
    found = json.loads(file.read_text())
    assert found["failed"] == {}
    assert [row["name"] for row in found["rows"]] == ["turn_rest", "turn_socket", "recording", "model_proxy"]
    for row in found["rows"]:
        assert row.keys() == FIELDS
        assert row["figure"] > 0
        assert row["ratio"] == pytest.approx(row["figure"] / row["baseline"], rel=0.02)
        assert row["what"] in output
    conditions = found["conditions"]
    assert (conditions["driver"], conditions["quick"], conditions["cores"]) == ("process", True, os.cpu_count())
    assert {"date", "kernel", "processor", "database", "redis", "claude", "python", "libraries"} <= conditions.keys()


async def test_an_interrupted_run_leaves_nothing_behind() -> None:
    process = bench("--only", "memory")
    assert process.stderr
    assert "session and bare claude" in process.stderr.readline()  # Redis, model and gateway are there
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    process.send_signal(signal.SIGINT)
    output, progress = process.communicate(timeout=90)
    assert process.returncode == 130, output + progress

    async def gone() -> bool:
        return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family)

    await until(gone, "all that it had started to end", 30)
    assert not list(Path("/tmp").glob(f"cc-bench-{process.pid}-*"))
