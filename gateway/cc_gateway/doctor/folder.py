"""The data folder: there or to be made, ours to write, closed to others, and whose it is now. And the disk below it."""

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cc_gateway.doctor.check import Check, Finding, Trouble, failure, in_thread, ok
from cc_gateway.doctor.subject import RunningGateway, Subject, nearest_folder
from cc_gateway.doctor.words import amount

PRIVATE: Final = ("jwt.secret", "gateway.json", "cc-docker.sqlite3")
FULL: Final = 500e6
NEARLY_FULL: Final = 5e9
NEARLY: Final = 0.10
FEWEST_INODES: Final = 1000


def checks(subject: Subject) -> list[Check]:
    late = "the folder does not answer: is it on a network disk whose server is away?"
    return [
        Check("data folder", lambda: _data_folder(subject), late),
        Check("disk", lambda: in_thread(_disk, subject), late),
    ]


# ---------------------------------------------------------------- the folder


async def _data_folder(subject: Subject) -> Finding:
    folder = subject.settings.data_dir
    finding = await in_thread(_usable, folder, subject.layout.run_root)
    gateway = await subject.gateway()
    if gateway is None:
        return finding
    if gateway.health:  # it works: what is wrong is wrong for us, who are perhaps somebody else
        finding = finding.mildly()
    return ok(f"{folder}, in use by {gateway}", *finding.troubles, *_how_it_is(gateway))


def _how_it_is(gateway: RunningGateway) -> Iterator[Trouble]:
    if gateway.health is None and not gateway.is_near:
        yield Trouble(
            f"{gateway} cannot be asked from here: it is in another container",
            "ask there: docker compose exec gateway cc-docker doctor",
            fatal=False,
        )
    elif gateway.health is None and not gateway.facts:
        yield Trouble(
            f"a gateway (pid {gateway.pid}) has locked the folder, and does not serve yet, or any more",
            f"wait some seconds; if it stays so, end it: kill {gateway.pid}",
            fatal=False,
        )
    elif gateway.health is None:
        yield Trouble(f"{gateway} does not answer", f"end it and start it again: kill {gateway.pid}")
    else:
        for part, said in (gateway.health.get("checks") or {}).items():
            if said != "ok":
                yield Trouble(f"the gateway says of its {part}: {said}", f"see {part} below", fatal=False)


def _usable(folder: Path, run_root: Path) -> Finding:
    """What `Layout.prepare` will find, without making anything that stays."""
    another = "set CC_DATA_DIR to a folder that you may write"
    place = nearest_folder(folder)
    if not place.is_dir():
        return failure(str(folder), f"{place} is no folder", f"move it away (mv {place} {place}.old), or {another}")
    if place != folder and folder.is_symlink():
        return failure(str(folder), f"{folder} is a link that leads nowhere", f"rm {folder}, or {another}")
    if refused := _refused(place):
        mend = f"sudo chown -R {os.geteuid()}:{os.getegid()} {place}, or {another}"
        return failure(str(folder), f"you (user {os.geteuid()}) cannot write {place}: {refused}", mend)
    if place != folder:
        return ok(f"{folder}, which the first start makes")
    return ok(str(folder), *_not_ours_alone(folder), *_parts(folder, run_root))


def _refused(folder: Path) -> str | None:
    """Why no file can be made in it; None where one can."""
    try:
        with tempfile.TemporaryFile(dir=folder):  # has no name, or loses it at once
            return None
    except OSError as error:
        return error.strerror or str(error)


def _not_ours_alone(folder: Path) -> Iterator[Trouble]:
    facts = folder.stat()
    if facts.st_mode & 0o022:
        yield Trouble("others on this machine may write in it", f"chmod 700 {folder}", fatal=False)
    if facts.st_uid != os.geteuid() != 0:
        yield Trouble(
            f"it belongs to user {facts.st_uid}, and you are {os.geteuid()}",
            f"sudo chown -R {os.geteuid()} {folder}, or run the gateway as that user",
            fatal=False,
        )
    for name in PRIVATE:
        path = folder / name
        if path.exists() and path.stat().st_mode & 0o077:
            yield Trouble(f"others on this machine may read {path}", f"chmod 600 {path}", fatal=False)


def _parts(folder: Path, run_root: Path) -> Iterator[Trouble]:
    """What an earlier start has made has to be of use still."""
    for path in (folder / "sessions", folder / "workspaces", folder / "logs"):
        if path.exists() and not (path.is_dir() and os.access(path, os.W_OK | os.X_OK)):
            yield Trouble(f"{path} is no folder that you may write", f"sudo chown -R {os.geteuid()} {path}")
    if not os.path.lexists(run_root):
        return
    facts = run_root.lstat()
    if not stat.S_ISDIR(facts.st_mode):
        yield Trouble(f"{run_root} is no folder", f"mv {run_root} {run_root}.old: the next start makes it")
    elif facts.st_uid != os.getuid():
        whose = f"{run_root} belongs to user {facts.st_uid}, and you are {os.getuid()}"
        yield Trouble(whose, f"run the gateway, and this, as that user: sudo -u '#{facts.st_uid}' cc-docker doctor")
    elif facts.st_mode & 0o077:
        yield Trouble(f"others on this machine may look into {run_root}", f"chmod 700 {run_root}")


# ---------------------------------------------------------------- the disk


def _disk(subject: Subject) -> Finding:
    folder = nearest_folder(subject.settings.data_dir)
    return judge(folder, f"see what takes it: du -xhd1 {folder} | sort -h; or set CC_DATA_DIR to a larger disk")


def judge(path: Path, mend: str) -> Finding:
    """Whether there is room for sessions on the disk of this path."""
    facts = os.statvfs(path)
    free, used = facts.f_bavail * facts.f_frsize, (facts.f_blocks - facts.f_bfree) * facts.f_frsize
    found = f"{amount(free)} free of {amount(facts.f_blocks * facts.f_frsize)}"
    left = [(free / max(free + used, 1), free < FULL, free < NEARLY_FULL, f"{amount(free)} are")]
    if facts.f_files:  # some file systems do not count them
        inodes, share = facts.f_favail, facts.f_favail / facts.f_files
        found += f", and {share:.0%} of the inodes"
        left.append((share, inodes < FEWEST_INODES, False, f"{inodes} inodes are"))
    troubles = [
        Trouble(f"only {what} left for {path} ({share:.0%})", mend, full)
        for share, full, nearly, what in left
        if full or nearly or share < NEARLY
    ]
    return ok(found, *troubles)
