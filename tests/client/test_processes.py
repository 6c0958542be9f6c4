"""The command as a process: the gateway that it starts and stops, Ctrl-C, and what it passes on."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start `cc-docker` with the stand-in gateway; what still runs at the end is killed."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        code = "from cc_client.cli import main; import sys; sys.argv[0] = 'cc-docker'; main()"
        path = os.pathsep.join([str(HERE / "fake_gateway"), str(HERE.parent)])
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"} | environment,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def _until(process: subprocess.Popen[str], words: str) -> str:
    """Read its output up to the line with these words."""
    seen = ""
    assert process.stdout is not None
    for line in process.stdout:
        seen += line
        if words in line:
            return seen
    raise AssertionError(f"{words!r} did not come: {seen} {process.stderr and process.stderr.read()}")


@pytest.mark.parametrize(("ending", "status"), [("completed", 0), ("failed", 1), ("interrupted", 130)])
def test_run_once_starts_a_gateway_and_leaves_with_the_turns_status(
    start: Start, data_dir: Path, ending: str, status: int
) -> None:
    process = start("run", "hello", "--once", "--port", "0", "--unsafe", ENDING=ending)
    out, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert "● you said: hello" in out
    assert "nothing is isolated" in out
    assert "Traceback" not in out + err
    assert (data_dir / "stopped").exists()
    log = (data_dir / "gateway.log").read_text()
    assert f"args: serve --data-dir {data_dir} --port 0 --unsafe\n" in log


def test_run_takes_a_stale_file_for_no_gateway(start: Start, data_dir: Path) -> None:
    (data_dir / "gateway.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": 999_999_999, "token": "x"}))
    process = start("run", "hello", "--once")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "● you said: hello" in out


def test_run_serves_on_until_ctrl_c_and_stops_the_gateway(start: Start, data_dir: Path) -> None:
    process = start("run", "hello")
    out = _until(process, "serving until Ctrl-C")
    assert "curl -sS http://127.0.0.1:" in out
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert (data_dir / "stopped").exists()


def test_sigterm_stops_the_gateway_too(start: Start, data_dir: Path) -> None:
    process = start("run", "hello")
    _until(process, "serving until Ctrl-C")
    process.terminate()
    process.communicate(timeout=30)
    assert (data_dir / "stopped").exists()


def test_ctrl_c_interrupts_the_turn_first(start: Start, data_dir: Path) -> None:
    process = start("run", "hello", "--once", HOLD="1")
    _until(process, "you said: hello")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "■ interrupted" in out
    assert "Traceback" not in out + err
    assert (data_dir / "stopped").exists()


def test_a_gateway_that_ends_early_is_told_with_its_last_lines_and_status(start: Start) -> None:
    process = start("run", "hello", FAKE="crash")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "error: port 8080 is already in use" in err
    assert "--port 0" in err
    assert "Traceback" not in out + err


def test_a_data_folder_that_cannot_be_used_is_told(start: Start, data_dir: Path) -> None:
    (data_dir / "file").write_text("")
    process = start("run", "hello", CC_DATA_DIR=str(data_dir / "file" / "in it"))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.startswith("error: the data folder")
    assert "CC_DATA_DIR" in err


def test_a_gateway_that_dies_while_it_serves_is_told(start: Start, data_dir: Path) -> None:
    process = start("run", "hello")
    _until(process, "serving until Ctrl-C")
    os.kill(json.loads((data_dir / "gateway.json").read_text())["pid"], signal.SIGKILL)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "error: the gateway ended" in err


@pytest.mark.parametrize("command", ["serve", "token", "scripted-model", "doctor"])
def test_the_gateways_commands_get_all_their_arguments(start: Start, command: str) -> None:
    process = start(command, "--port", "8080", "--help", "-x", FAKE="argv")
    out, _ = process.communicate(timeout=60)
    assert out == f"argv: {command} --port 8080 --help -x\n"


def test_a_reader_that_leaves_is_no_error(start: Start, data_dir: Path) -> None:
    process = start("--help")
    assert process.stdout is not None
    process.stdout.close()
    process.wait(60)
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
