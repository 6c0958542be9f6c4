"""What a session would find in its container. The text of this module is run there; nothing here imports it to run it.

It asks the socket of its run folder, writes into its workspace, and prints as JSON what came of it.
"""

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable


def _tried(look: Callable[[], str]) -> dict[str, str]:
    try:
        return {"ok": look()}
    except OSError as error:
        return {"error": errno.errorcode.get(error.errno or 0, str(error))}


def _ask(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(path)
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while piece := client.recv(4096):
            answer += piece
    return answer.rpartition(b"\r\n")[2].decode()


def _write(path: str) -> str:
    with open(path, "x") as file:
        return str(file.write("written"))


def _version(claude: str) -> str:
    done = subprocess.run([claude, "--version"], capture_output=True, text=True, timeout=10, check=False)
    return (done.stdout.split() or [done.stderr.strip()])[0]


if __name__ == "__main__":
    socket_path, file_path, claude_path = sys.argv[1:]
    found = {
        "uid": os.getuid(),
        "socket": _tried(lambda: _ask(socket_path)),
        "workspace": _tried(lambda: _write(file_path)),
        "claude": _tried(lambda: _version(claude_path)),
    }
    print(json.dumps(found))
