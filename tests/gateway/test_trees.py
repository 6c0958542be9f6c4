"""Folders of agents are removed whole, and nothing outside of them is touched."""

import os
from pathlib import Path

import pytest

from cc_gateway.services.trees import MAX_DEPTH, remove_tree

SOMEBODY = 65534


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "file").write_text("x")
    return folder


def test_a_folder_that_is_not_there_is_fine(tmp_path: Path) -> None:
    remove_tree(tmp_path / "none")


def test_links_are_removed_and_not_followed(tree: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o755)
    (kept / "file").write_text("kept")
    (tree / "link").symlink_to(kept)
    (tree / "a" / "link").symlink_to(kept / "file")
    os.mkfifo(tree / "fifo")
    remove_tree(tree)
    assert not tree.exists()
    assert (kept / "file").read_text() == "kept"
    assert kept.stat().st_mode & 0o777 == 0o755


def test_a_link_in_the_place_of_the_folder_is_refused(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tree)
    with pytest.raises(OSError, match="link"):
        remove_tree(tmp_path / "link")
    assert (tree / "a" / "file").exists()


def test_closed_folders_are_opened_also_by_one_who_is_not_root(tmp_path: Path) -> None:
    """As an ordinary user: root opens everything anyway."""
    folder = tmp_path / "tree"
    for number in range(12):
        (folder / str(number) / "inner").mkdir(parents=True)
        (folder / str(number) / "inner").chmod(0)
        (folder / str(number)).chmod(0)
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, SOMEBODY, SOMEBODY)
        for path in (tmp_path, *tmp_path.parents):
            path.chmod(path.stat().st_mode | 0o011)
        tmp_path.chmod(0o777)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(SOMEBODY)
                os.setuid(SOMEBODY)
            remove_tree(folder)
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not folder.exists()


def test_folders_nested_without_end_are_removed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    descriptor = os.open(tree, os.O_RDONLY)
    for _ in range(20 * MAX_DEPTH):
        os.mkdir("d", dir_fd=descriptor)
        inner = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)
    remove_tree(tree)
    assert not tree.exists()
