"""The process driver keeps the contract, with and without bubblewrap; and with it, what it confines."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cc_gateway.drivers import process as process_module
from cc_gateway.drivers.base import SessionSpec
from cc_gateway.drivers.bubblewrap import confine, find_bubblewrap
from cc_gateway.drivers.process import ProcessDriver
from contracts.driver_contract import DriverContract, MakeSpec

CHECKOUT = Path(__file__).parents[2]
PLAYED = Path(__file__).parent / "played_wrapper.py"


async def _driver(short_dir: Path, bubblewrap: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProcessDriver]:
    monkeypatch.setattr(process_module, "WRAPPER", [sys.executable, "-P", PLAYED.name])
    driver = ProcessDriver(
        deployment="contract", data_dir=short_dir / "drivers", logs=short_dir / "logs", bubblewrap=bubblewrap
    )
    yield driver
    for handle in [handle async for _, handle in driver.running()]:
        await driver.stop(handle, grace=0)


class TestUnconfined(DriverContract):
    @pytest.fixture
    async def driver(self, short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProcessDriver]:
        async for driver in _driver(short_dir, "off", monkeypatch):
            assert not driver.isolated
            yield driver


class TestConfined(DriverContract):
    @pytest.fixture
    async def driver(self, short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProcessDriver]:
        if find_bubblewrap("auto") is None:
            pytest.skip("bubblewrap does not work here (apt-get install bubblewrap)")
        async for driver in _driver(short_dir, "on", monkeypatch):
            assert driver.isolated
            yield driver


@pytest.fixture
def run_confined(short_dir: Path, make_spec: MakeSpec):  # type: ignore[no-untyped-def]
    bwrap = find_bubblewrap("auto")
    if bwrap is None:
        pytest.skip("bubblewrap does not work here (apt-get install bubblewrap)")
    spec = make_spec()

    def run(script: str, *, confined: bool = True) -> subprocess.CompletedProcess[str]:
        command = ["sh", "-c", script]
        if confined:
            command = confine(bwrap, spec.folders, short_dir / "drivers", Path("/bin/true"), command)
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    run.spec = spec  # type: ignore[attr-defined]
    return run


def test_a_confined_session_works_in_its_own_folders(run_confined) -> None:  # type: ignore[no-untyped-def]
    spec: SessionSpec = run_confined.spec
    assert run_confined("echo x > file && cat file").stdout == "x\n"
    assert (spec.folders.workspace / "file").read_text() == "x\n"
    assert run_confined(f"echo y > {spec.folders.claude}/t").returncode == 0


@pytest.mark.parametrize(
    ("what", "script"),
    [
        ("write to the host", "echo x > /usr/local/cc-probe && rm /usr/local/cc-probe"),
        ("write its run folder", "touch {run}/probe && rm {run}/probe"),
        ("read another session's files", "cat {other}"),
        ("read the gateway's secrets", "cat {data}/jwt.secret"),
        ("see other processes", "test $(ls -d /proc/[0-9]* | wc -l) -gt 8"),
        ("use the network", "test $(tail -n +3 /proc/net/dev | wc -l) -gt 1"),
        ("read the home", "ls ~/.bashrc ~/.profile"),
        ("read the system's secrets", "cat /etc/shadow"),
        ("read what lies beside the programs", "cat {checkout}/pyproject.toml"),
        ("uncover what is hidden", "mkdir -p {data}/u && mount -t tmpfs x {data}/u && umount -l {data}/u"),
    ],
)
def test_a_confined_session_cannot(what: str, script: str, run_confined, make_spec: MakeSpec, short_dir: Path) -> None:  # type: ignore[no-untyped-def]
    other = make_spec().folders.workspace / "private"
    other.write_text("private")
    (short_dir / "drivers" / "jwt.secret").write_text("secret")
    script = script.format(
        other=other, data=short_dir / "drivers", run=run_confined.spec.folders.run, checkout=CHECKOUT
    )
    assert run_confined(script, confined=False).returncode == 0, "positive control: unconfined it can"
    assert run_confined(script).returncode != 0, f"it can {what}"
