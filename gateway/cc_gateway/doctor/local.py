"""What the `process` driver needs: bubblewrap to confine sessions, and the `claude` binary."""

import shutil
import subprocess
from pathlib import Path

from cc_gateway.doctor.check import Check, Finding, Trouble, failure, in_thread, ok
from cc_gateway.doctor.subject import Subject
from cc_gateway.drivers.base import DriverError
from cc_gateway.drivers.bubblewrap import ISOLATION, find_bubblewrap
from cc_gateway.drivers.claude import CLAUDE_VERSION, SDK_VERSION, claude_binary, require_version

BUBBLEWRAP = "bubblewrap"
CLAUDE = "claude"


def checks(subject: Subject) -> list[Check]:
    return [
        Check(BUBBLEWRAP, lambda: in_thread(_bubblewrap, subject.settings.driver.bubblewrap)),
        Check(CLAUDE, lambda: in_thread(_claude, subject.settings.driver.claude_binary)),
    ]


def isolates(subject: Subject) -> bool:
    """Whether the process driver would confine a session here."""
    try:
        return find_bubblewrap(subject.settings.driver.bubblewrap) is not None
    except DriverError:
        return False


def _bubblewrap(wanted: str) -> Finding:
    bare = "nothing isolates sessions: what an agent does, it does as you on this machine"
    if wanted == "off":
        return ok("switched off", Trouble(bare, "unset CC_BUBBLEWRAP", fatal=False))
    if find_bubblewrap("auto"):
        return ok(f"{_first_words(['bwrap', '--version'])} confines sessions")
    fatal = wanted == "on"
    if not (path := shutil.which("bwrap")):
        return ok("not installed", Trouble(bare, "sudo apt-get install bubblewrap", fatal))
    return ok(f"{path} does not work here", Trouble(f"{bare}. It says: {_complaint(path)}", _userns(), fatal))


def _complaint(path: str) -> str:
    """Why it cannot make its namespaces, in its own words."""
    command = [path, *ISOLATION, "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "true"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stderr.strip() or "nothing (it leaves capabilities in its namespaces)"


def _userns() -> str:
    """Debian and Ubuntu each have a switch of their own that forbids users their own namespaces."""
    for name in ("kernel.apparmor_restrict_unprivileged_userns=0", "kernel.unprivileged_userns_clone=1"):
        key, _, value = name.partition("=")
        switch = Path("/proc/sys") / key.replace(".", "/")
        if switch.exists() and switch.read_text().strip() != value:
            return f"sudo sysctl -w {name}"
    return "allow namespaces to this user (in a container: use CC_DRIVER=docker), or set CC_BUBBLEWRAP=off"


def _claude(configured: Path | None) -> Finding:
    try:
        binary = claude_binary(configured)
        require_version(binary)
    except DriverError as error:
        mend = f"pip install 'claude-agent-sdk=={SDK_VERSION}'"
        return failure("it cannot be used", error.message, f"unset CC_CLAUDE_BINARY, or {mend}" if configured else mend)
    return ok(f"{CLAUDE_VERSION} ({binary})")


def _first_words(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
