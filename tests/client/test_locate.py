"""Finding the gateway: the environment first, then a file that only counts while its gateway lives."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from cc_client import Client, NoGateway, locate
from client.stub_gateway import TOKEN, StubGateway


def _write(folder: Path, **fields: object) -> None:
    known = {"url": "http://127.0.0.1:1", "pid": os.getpid(), "token": TOKEN, "version": "0"} | fields
    (folder / "gateway.json").write_text(json.dumps(known))


def test_a_running_gateway_is_found_by_its_file(data_dir: Path, stub: StubGateway) -> None:
    _write(data_dir, url=stub.url, model="m", isolated=False, a_field_of_tomorrow=1)
    gateway = locate.find()
    assert (gateway.url, gateway.token) == (stub.url, TOKEN)
    assert gateway.known is not None
    assert gateway.known.isolated is False


def test_the_environment_wins_over_the_file(data_dir: Path, stub: StubGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(data_dir, url=stub.url)
    monkeypatch.setenv("CC_API_URL", "https://cc.example.com/api/v1/")
    monkeypatch.setenv("CC_TOKEN", "t")
    assert locate.find() == locate.Gateway("https://cc.example.com", "t", None)


def test_an_address_without_a_token_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC_API_URL", "https://cc.example.com")
    with pytest.raises(NoGateway, match="CC_TOKEN"):
        locate.find()


def test_no_file_means_no_gateway_and_how_to_start_one() -> None:
    with pytest.raises(NoGateway, match="no gateway is running") as caught:
        Client.discover()
    assert "cc-docker serve" in (caught.value.hint or "")


def test_a_gateway_in_a_container_is_known_by_its_answer(data_dir: Path, stub: StubGateway) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait(10)
    _write(data_dir, url=stub.url, pid=gone.pid, host="another-host")
    assert locate.find().url == stub.url


def test_a_file_whose_process_is_gone_means_no_gateway(data_dir: Path, stub: StubGateway) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    _write(data_dir, url=stub.url, pid=gone.pid)
    with pytest.raises(NoGateway) as caught:
        locate.find()
    assert "dead" in (caught.value.hint or "")


def test_a_file_whose_address_does_not_answer_means_no_gateway(data_dir: Path) -> None:
    _write(data_dir)
    assert locate.running(data_dir) is None


@pytest.mark.parametrize("content", ["", "{", '{"url": 1}', "[]"])
def test_a_broken_file_means_no_gateway(data_dir: Path, content: str) -> None:
    (data_dir / "gateway.json").write_text(content)
    assert locate.running(data_dir) is None


def test_the_data_folder_may_stand_in_the_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC_DATA_DIR")
    Path(".env").write_text(f"# mine\nexport CC_DATA_DIR='{tmp_path}/other'\n")
    assert locate.data_dir() == tmp_path / "other"
    Path(".env").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", "/xdg")
    assert locate.data_dir() == Path("/xdg/cc-docker")
