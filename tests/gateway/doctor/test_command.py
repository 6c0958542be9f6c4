"""`python -m cc_gateway doctor` as a process: what it prints, its exit status, and that it leaves nothing behind."""

import asyncio
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cc_gateway.doctor.check import Check, Status, failure, in_thread, note, ok, run_all, skipped
from cc_gateway.doctor.examination import Examination
from cc_gateway.doctor.report import as_json, pieces
from cc_gateway.drivers.bubblewrap import find_bubblewrap
from gateway.doctor.looking import Look, of, words
from support import processes
from support.gateway import GatewayProcess

DOCTOR = [sys.executable, "-m", "cc_gateway", "doctor"]


@pytest.fixture
def run(place: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        defaults = {"CC_DATA_DIR": str(place / "data"), "CC_DRIVER": "process", "CC_PORT": "0"}
        return subprocess.run(
            [*DOCTOR, *arguments],
            env=os.environ | defaults | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_a_good_machine_is_told_line_by_line_with_a_verdict(
    run: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    if find_bubblewrap("auto") is None:
        pytest.skip("bubblewrap does not work here (apt-get install bubblewrap)")
    done = run()
    assert done.returncode == 0, done.stdout
    assert done.stderr == ""
    *lines, verdict = done.stdout.splitlines()
    marks = [
        line[0] for line in lines if line and not line.startswith(("! disk", " "))
    ]  # some machines have a full one
    assert set(marks[:-1]) == {"✓"}, done.stdout
    assert marks[-1] == "·", "the scripted model"
    assert re.match(
        r"[✓!] ready.*: `cc-docker serve` would use the process driver \(bubblewrap\) and the scripted model", verdict
    )
    assert "\x1b" not in done.stdout, "no colour on a pipe"


def test_nothing_is_changed(run: Callable[..., subprocess.CompletedProcess[str]], place: Path) -> None:
    run()
    assert list(place.iterdir()) == []
    assert not processes.belonging_to(place)


def test_what_would_keep_sessions_from_running_is_status_1_with_the_mend(
    run: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = run(CC_CLAUDE_BINARY="/nowhere/claude")
    assert done.returncode == 1
    assert "✗ claude" in done.stdout
    assert "CC_CLAUDE_BINARY=/nowhere/claude is not an executable file" in done.stdout
    assert "→ unset CC_CLAUDE_BINARY" in done.stdout
    assert "✗ not ready: see claude" in done.stdout


def test_a_warning_is_status_0(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run(CC_BUBBLEWRAP="off")
    assert done.returncode == 0
    assert "! bubblewrap" in done.stdout
    assert "! ready, with 1 warning: `cc-docker serve` would use the process driver (nothing isolated)" in done.stdout


def test_programs_get_json(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    told = json.loads(run("--json", CC_BUBBLEWRAP="off").stdout)
    assert told["ok"] is True
    assert (told["driver"], told["model"]) == ("process", "the scripted model")
    (warned,) = (check for check in told["checks"] if check["status"] == "warning")
    assert warned["name"] == "bubblewrap"
    assert warned["troubles"][0]["mend"] == "unset CC_BUBBLEWRAP"
    assert all(0 <= check["seconds"] < 60 for check in told["checks"])


def test_a_terminal_of_ascii_gets_ascii(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run(PYTHONIOENCODING="ascii", CC_BUBBLEWRAP="off")
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert "+ settings" in done.stdout
    assert "-> unset CC_BUBBLEWRAP" in done.stdout


def test_it_ends_in_order_when_told_to(place: Path) -> None:
    """A model that never answers keeps it for a while."""
    with subprocess.Popen([sys.executable, "-c", SILENT], stdout=subprocess.PIPE, text=True) as silent:
        assert silent.stdout
        url = f"http://127.0.0.1:{silent.stdout.readline().strip()}"
        environment = {"CC_DATA_DIR": str(place / "data"), "CC_DRIVER": "process", "CC_MODEL_URL": url}
        with subprocess.Popen(DOCTOR, env=os.environ | environment, stderr=subprocess.PIPE, text=True) as doctor:
            silent.stdout.readline()  # it has been asked
            doctor.send_signal(signal.SIGTERM)
            _, said = doctor.communicate(timeout=10)
        silent.kill()
    assert (doctor.returncode, said) == (130, "")
    assert list(place.iterdir()) == []


SILENT = """
import socket
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1], flush=True)
    connection, _ = server.accept()
    print("asked", flush=True)
    connection.recv(1)
    server.accept()
"""


# ------------------------------------------------------------------------------------------- beside a gateway that runs


async def test_beside_a_gateway_that_runs_all_is_well(look: Look, own_gateway: Callable[..., GatewayProcess]) -> None:
    gateway = own_gateway().start()
    before = (gateway.data_dir / "gateway.lock").read_text()
    examination = await look(**_settings_of(gateway))
    assert examination.well, [words(result) for result in examination.with_status(Status.FAILURE)]
    assert f"in use by the gateway at {gateway.url} (pid {gateway.pid}" in words(of(examination, "data folder"))
    assert words(of(examination, "address")) == f"{gateway.url}, where the gateway answers"
    assert "migrated to" in words(of(examination, "database"))
    assert "(newest)" in words(of(examination, "database"))
    assert (gateway.data_dir / "gateway.lock").read_text() == before
    assert gateway.stop() == 0


async def test_a_gateway_that_does_not_answer_is_named(look: Look, own_gateway: Callable[..., GatewayProcess]) -> None:
    gateway = own_gateway().start()
    os.kill(gateway.pid, signal.SIGSTOP)
    try:
        result = of(await look(**_settings_of(gateway)), "data folder")
    finally:
        os.kill(gateway.pid, signal.SIGCONT)
    assert result.status is Status.FAILURE
    assert "does not answer -> " in words(result)
    assert f"kill {gateway.pid}" in words(result)


async def test_a_gateway_in_another_container_is_not_to_be_killed_by_its_number(look: Look, place: Path) -> None:
    """Its process ids are its own: here they are somebody else's."""
    data = place / "data"
    data.mkdir(mode=0o700)
    with (data / "gateway.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("1")
        lock.flush()
        result = of(await look(), "data folder")
    assert result.status is Status.WARNING
    assert "it is in another container -> ask there" in words(result)
    assert "kill" not in words(result)


async def test_after_a_gateway_has_stopped_its_database_is_read_without_a_trace(
    look: Look, own_gateway: Callable[..., GatewayProcess]
) -> None:
    gateway = own_gateway().start()
    gateway.stop()
    before = {path: path.stat().st_mtime_ns for path in gateway.data_dir.rglob("*") if path.is_file()}
    examination = await look(**_settings_of(gateway))
    assert examination.well, [words(result) for result in examination.with_status(Status.FAILURE)]
    assert {path: path.stat().st_mtime_ns for path in gateway.data_dir.rglob("*") if path.is_file()} == before


def _settings_of(gateway: GatewayProcess) -> dict[str, str]:
    return {name: value for name, value in gateway.environment().items() if name.startswith("CC_")}


# ------------------------------------------------------------------------------------------- how checks are run


async def test_all_checks_run_at_once_and_each_has_its_own_time() -> None:
    async def never() -> None:
        await asyncio.get_running_loop().create_future()

    begun = time.monotonic()
    results = await run_all([Check(f"slow {i}", never, late="wait", seconds=0.3) for i in range(20)])  # type: ignore[arg-type]
    assert time.monotonic() - begun < 3
    assert {result.status for result in results} == {Status.FAILURE}
    assert words(results[0]) == "no answer | it took longer than 0 s -> wait"


async def test_a_check_that_crashes_is_reported_and_the_others_go_on() -> None:
    async def crash() -> None:
        raise RuntimeError("boom")

    async def fine() -> object:
        return ok("fine")

    first, second = await run_all([Check("crash", crash), Check("fine", fine)])  # type: ignore[arg-type]
    assert first.status is Status.FAILURE
    assert "a fault of this check itself: RuntimeError: boom" in words(first)
    assert second.status is Status.OK


async def test_a_call_that_blocks_for_ever_holds_up_nobody() -> None:
    reading, writing = os.pipe()

    async def blocks() -> object:
        return await in_thread(os.read, reading, 1)

    (result,) = await run_all([Check("blocks", blocks, seconds=0.2)])  # type: ignore[arg-type]
    assert result.status is Status.FAILURE
    os.write(writing, b"x")


async def test_each_kind_of_end_has_a_mark_and_troubles_have_two_lines() -> None:
    async def kinds() -> list[object]:
        return [
            ok("a"),
            note("b"),
            skipped("c"),
            failure("d", "broken", "mend it").mildly(),
            failure("e", "broken", "mend it"),
        ]

    checks = [Check(f"n{i}", lambda one=one: asyncio.sleep(0, one)) for i, one in enumerate(await kinds())]  # type: ignore[misc]
    examination = Examination(await run_all(checks), "docker", "containers", "a model")
    text = "".join(piece for piece, _ in pieces(examination))
    assert [line[0] for line in text.splitlines() if line] == ["✓", "·", "–", "!", " ", " ", "✗", " ", " ", "✗"]
    assert "      broken\n      → mend it\n" in text
    assert as_json(examination)["ok"] is False
