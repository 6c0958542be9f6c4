"""The contract of a session driver, as tests that every driver runs.

A driver's test module subclasses `DriverContract` and gives the fixture `driver`. Wrappers are played by small programs
where the contract is about places and not about agents; the driver starts them exactly as it starts the real one.
"""

import os
from collections.abc import Callable

import psutil

from cc_gateway.drivers.base import SessionDriver, SessionSpec
from support.waiting import until

SECRET = "a-secret-of-this-session"
MakeSpec = Callable[..., SessionSpec]


class DriverContract:
    """What every driver does."""

    async def test_a_started_session_runs_and_is_found(self, driver: SessionDriver, make_spec: MakeSpec) -> None:
        spec = make_spec()
        handle = await driver.start(spec)
        assert await driver.poll(handle) is None
        assert (spec.session_id, handle) in [item async for item in driver.running()]

    async def test_starting_twice_starts_once(self, driver: SessionDriver, make_spec: MakeSpec) -> None:
        spec = make_spec()
        first = await driver.start(spec)
        assert await driver.start(spec) == first
        assert [s async for s, _ in driver.running()].count(spec.session_id) == 1

    async def test_a_new_incarnation_ends_the_old_one(self, driver: SessionDriver, make_spec: MakeSpec) -> None:
        spec = make_spec()
        old = await driver.start(spec)
        new = await driver.start(make_spec(spec.session_id, incarnation=2))
        assert new != old
        assert await driver.poll(old) is not None
        assert await driver.poll(new) is None

    async def test_stopping_ends_it_and_all_that_it_started(self, driver: SessionDriver, make_spec: MakeSpec) -> None:
        spec = make_spec()
        handle = await driver.start(spec)
        await children_are_up(spec)
        await driver.stop(handle, grace=5)
        assert await driver.poll(handle) is not None
        assert spec.session_id not in [s async for s, _ in driver.running()]
        assert not _processes_of(spec)

    async def test_one_that_does_not_listen_is_killed_in_time(self, driver: SessionDriver, make_spec: MakeSpec) -> None:
        spec = make_spec()
        (spec.folders.workspace / "stubborn").touch()
        handle = await driver.start(spec)
        await children_are_up(spec)
        await driver.stop(handle, grace=0.3)
        assert await driver.poll(handle) is not None
        assert not _processes_of(spec)

    async def test_stopping_again_or_the_unknown_does_nothing(self, driver: SessionDriver, make_spec: MakeSpec) -> None:
        handle = await driver.start(make_spec())
        await driver.stop(handle, grace=1)
        await driver.stop(handle, grace=1)
        await driver.stop("rubbish", grace=1)
        assert await driver.poll("rubbish") is not None
        assert await driver.logs("rubbish") == ""
        assert await driver.logs("../rubbish") == ""

    async def test_how_it_ended_is_told(self, driver: SessionDriver, make_spec: MakeSpec) -> None:
        spec = make_spec()
        (spec.folders.workspace / "exit-with-7").touch()
        handle = await driver.start(spec)
        ended = await until(lambda: driver.poll(handle), "its end")
        assert ended is not None
        assert ended.code == 7

    async def test_its_output_is_kept(self, driver: SessionDriver, make_spec: MakeSpec) -> None:
        spec = make_spec()
        handle = await driver.start(spec)
        await children_are_up(spec)
        assert "wrapper is up" in await driver.logs(spec.session_id)
        assert await driver.logs(spec.session_id, tail=0) == ""
        await driver.stop(handle, grace=0)
        assert "wrapper is up" in await driver.logs(spec.session_id), "also when it has ended"

    async def test_no_secret_stands_in_environment_or_arguments(
        self, driver: SessionDriver, make_spec: MakeSpec
    ) -> None:
        spec = make_spec()
        await driver.start(spec)
        await children_are_up(spec)
        processes = _processes_of(spec)
        assert processes
        for process in processes:
            assert SECRET not in str(process.environ()) + str(process.cmdline())
        assert SECRET in (spec.folders.run / "secrets.json").read_text()  # positive control: here it is
        assert (spec.folders.run / "secrets.json").stat().st_mode & 0o077 == 0


async def children_are_up(spec: SessionSpec) -> None:
    async def look() -> bool:
        return (spec.folders.workspace / "children-are-up").exists()

    await until(look, "the wrapper's children")


def _processes_of(spec: SessionSpec) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            mark = process.environ().get("CC_SESSION_MARK", "")
            if spec.session_id in mark and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                found.append(process)
        except psutil.Error:
            continue
    return found
