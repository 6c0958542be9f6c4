"""The settings, the tokens, the data folder, its disk, its sockets and the address: what is wrong is named with its mend."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from cc_gateway.doctor.check import Finding, Status
from cc_gateway.doctor.folder import judge
from gateway.doctor.looking import Look, of, words

GB = 10**9


async def test_every_wrong_setting_is_named(look: Look) -> None:
    examination = await look(CC_PORT="many", CC_DRIVER="rocket")
    (settings,) = examination.results
    assert settings.status is Status.FAILURE
    assert [one.problem.partition(":")[0] for one in settings.finding.troubles] == ["CC_PORT", "CC_DRIVER"]
    assert "docs/configuration.md" in words(settings)
    assert "the settings are wrong" in examination.verdict
    assert not examination.well


async def test_a_file_of_settings_that_is_none_is_named(look: Look, place: Path) -> None:
    (place / ".env").write_bytes(b"CC_PORT=\xff\xfe")
    (settings,) = (await look()).results
    assert f"{place}/.env" in words(settings)


async def test_a_setting_that_is_misspelt_is_a_warning(look: Look) -> None:
    result = of(await look(CC_REDIS_ULR="redis://127.0.0.1"), "settings")
    assert result.status is Status.WARNING
    assert "CC_REDIS_ULR is no setting: it has no effect -> if CC_REDIS_URL is meant" in words(result)


async def test_variables_that_are_no_settings_of_ours_are_left_alone(look: Look) -> None:
    result = of(await look(CC_TOKEN="x", CC_API_URL="http://x", CC_FOR_BUILD="gcc"), "settings")
    assert result.status is Status.OK


# ------------------------------------------------------------------------------------------- tokens


async def test_a_short_secret_is_a_failure_and_never_shown(look: Look) -> None:
    result = of(await look(CC_JWT_SECRET="short-secret"), "tokens")
    assert result.status is Status.FAILURE
    assert "CC_JWT_SECRET is too short" in words(result)
    assert "short-secret" not in words(result)


async def test_a_secret_that_is_easy_to_guess_is_a_warning(look: Look) -> None:
    assert of(await look(CC_JWT_SECRET="ab" * 20), "tokens").status is Status.WARNING


async def test_a_secret_that_others_may_read_is_a_warning(look: Look, place: Path) -> None:
    secret = place / "data" / "jwt.secret"
    secret.parent.mkdir(mode=0o700)
    secret.write_text("s" * 12 + "0123456789abcdef" * 3)
    secret.chmod(0o644)
    result = of(await look(), "tokens")
    assert result.status is Status.WARNING
    assert f"chmod 600 {secret}" in words(result)


async def test_tokens_that_cross_the_network_in_clear_are_a_warning(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cc_gateway.doctor.configuration.in_container", lambda: False)
    assert of(await look(CC_HOST="0.0.0.0"), "tokens").status is Status.WARNING
    assert of(await look(CC_HOST="0.0.0.0", CC_PUBLIC_URL="https://agents.test"), "tokens").status is Status.OK


# ------------------------------------------------------------------------------------------- the folder


async def test_a_file_in_place_of_the_data_folder_is_a_failure(look: Look, place: Path) -> None:
    (place / "data").write_text("")
    examination = await look()
    result = of(examination, "data folder")
    assert result.status is Status.FAILURE
    assert f"{place}/data is no folder -> move it away" in words(result)
    assert (place / "data").read_text() == ""
    assert of(examination, "sockets").status is Status.SKIPPED


async def test_a_file_above_the_data_folder_is_a_failure(look: Look, place: Path) -> None:
    (place / "file").write_text("")
    assert of(await look(CC_DATA_DIR=str(place / "file" / "data")), "data folder").status is Status.FAILURE


async def test_a_folder_where_no_file_can_be_made_is_a_failure(look: Look) -> None:
    """Not even by root."""
    result = of(await look(CC_DATA_DIR="/proc/cc-docker"), "data folder")
    assert result.status is Status.FAILURE
    assert "cannot write /proc" in words(result)
    assert "set CC_DATA_DIR" in words(result)


async def test_a_folder_that_others_may_write_is_a_warning(look: Look, place: Path) -> None:
    (place / "data").mkdir()
    (place / "data").chmod(0o777)
    result = of(await look(), "data folder")
    assert result.status is Status.WARNING
    assert f"chmod 700 {place}/data" in words(result)


async def test_a_run_folder_that_is_not_ours_alone_is_a_failure(look: Look, place: Path) -> None:
    (place / "data" / "run").mkdir(parents=True)
    (place / "data" / "run").chmod(0o755)
    result = of(await look(), "data folder")
    assert result.status is Status.FAILURE
    assert f"chmod 700 {place}/data/run" in words(result)


async def test_a_folder_of_somebody_else_is_a_failure_and_not_to_be_removed(look: Look, place: Path) -> None:
    run = place / "data" / "run"
    run.mkdir(parents=True, mode=0o700)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("cc_gateway.doctor.folder.os.getuid", lambda: 4711)
        result = of(await look(), "data folder")
    assert result.status is Status.FAILURE
    assert f"{run} belongs to user {os.getuid()}, and you are 4711" in words(result)
    assert "sudo -u" in words(result)
    assert "rm " not in words(result)


# ------------------------------------------------------------------------------------------- sockets


async def test_sockets_of_a_data_folder_with_a_long_path_lie_in_a_short_one(look: Look, place: Path) -> None:
    result = of(await look(CC_DATA_DIR=str(place / ("long" * 30))), "sockets")
    assert result.status is Status.OK
    assert "/cc-docker-" in words(result)


async def test_a_path_that_is_too_long_for_sockets_is_a_failure(
    look: Look, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = place / ("long" * 20)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    result = of(await look(CC_DATA_DIR=str(long / "data")), "sockets")
    assert result.status is Status.FAILURE
    assert "and 107 is the most -> set CC_DATA_DIR to a shorter path" in words(result)


async def test_a_folder_that_takes_no_sockets_is_a_failure(look: Look, place: Path) -> None:
    """A file system without them, or a mount that forbids them, says no in the same way as this."""
    taken = place / "data" / "run"
    taken.mkdir(parents=True, mode=0o700)

    async def refuse(*_arguments: object, **_named: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("cc_gateway.doctor.sockets.HttpSocket.open", refuse)
        result = of(await look(), "sockets")
    assert result.status is Status.FAILURE
    assert "a unix socket does not work there" in words(result)
    assert list(taken.iterdir()) == []


# ------------------------------------------------------------------------------------------- the disk


@pytest.fixture
def small_disk(place: Path) -> Iterator[Path]:
    """A disk of 16 MB where we may mount one; else the same numbers without a disk."""
    folder = place / "small"
    folder.mkdir()
    mounted = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", folder], capture_output=True).returncode == 0
    )
    if mounted:
        yield folder
        subprocess.run(["umount", folder], check=True)
        return
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "statvfs", lambda _path: _disk(16e6, 16e6))
        yield folder


def _disk(free: float, total: float, inodes: int = 10**6) -> SimpleNamespace:
    blocks = {"f_frsize": 1000, "f_blocks": total // 1000, "f_bfree": free // 1000, "f_bavail": free // 1000}
    return SimpleNamespace(**blocks, f_files=10**6, f_favail=inodes)


async def test_a_disk_that_is_full_is_a_failure(look: Look, small_disk: Path) -> None:
    result = of(await look(CC_DATA_DIR=str(small_disk / "data")), "disk")
    assert result.status is Status.FAILURE
    assert "only 1" in words(result)
    assert f"du -xhd1 {small_disk} | sort -h" in words(result)


@pytest.mark.parametrize(
    ("disk", "status"),
    [
        (_disk(100 * GB, 200 * GB), Status.OK),
        (_disk(4 * GB, 20 * GB), Status.WARNING),
        (_disk(50 * GB, 1000 * GB), Status.WARNING),
        (_disk(0.4 * GB, 2 * GB), Status.FAILURE),
        (_disk(100 * GB, 200 * GB, inodes=50_000), Status.WARNING),
        (_disk(100 * GB, 200 * GB, inodes=10), Status.FAILURE),
    ],
)
def test_how_much_room_is_enough(disk: SimpleNamespace, status: Status, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _path: disk)
    finding: Finding = judge(Path("/data"), "make room")
    assert finding.status is status


# ------------------------------------------------------------------------------------------- the address


async def test_a_port_that_another_program_has_is_a_failure(look: Look) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        result = of(await look(CC_PORT=str(other.getsockname()[1])), "address")
    assert result.status is Status.FAILURE
    assert f"process {os.getpid()} (" in words(result)
    assert "cc-docker serve --port 0" in words(result)


async def test_an_address_of_another_machine_is_a_failure(look: Look) -> None:
    result = of(await look(CC_HOST="192.0.2.1"), "address")
    assert result.status is Status.FAILURE
    assert "set CC_HOST to an address of this machine" in words(result)
