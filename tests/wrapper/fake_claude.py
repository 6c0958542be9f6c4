#!/usr/bin/env python3
"""Stands for a `claude` that misbehaves in ways the real one cannot be made to. FAKE_MODE says how."""

import json
import os
import signal
import sys
import time

VERSION = "2.1.329"
MODE = os.environ.get("FAKE_MODE", "")


def say(line: dict) -> None:
    print(json.dumps(line), flush=True)


def prompt_taken(uuid: str) -> None:
    say({"type": "system", "subtype": "session_state_changed", "state": "running"})
    for state in ("queued", "started"):
        say({"type": "command_lifecycle", "command_uuid": uuid, "state": state})


def finish(uuid: str) -> None:
    say({"subtype": "success", "is_error": False, "result": "fine", "type": "result", "user_message_uuids": [uuid]})
    say({"type": "command_lifecycle", "command_uuid": uuid, "state": "completed"})
    say({"type": "system", "subtype": "session_state_changed", "state": "idle"})


def main() -> None:
    if sys.argv[1:] == ["--version"]:
        print(f"{os.environ.get('FAKE_VERSION', VERSION)} (Claude Code)")
        return
    if MODE == "dies":
        sys.exit("no good")
    for line in sys.stdin:
        message = json.loads(line)
        if message["type"] == "control_request":
            if MODE == "deaf" and message["request"]["subtype"] == "interrupt":
                continue
            response = {"subtype": "success", "request_id": message["request_id"], "response": {}}
            say({"type": "control_response", "response": response})
            continue
        uuid = message.get("uuid")
        if MODE == "stateless":
            say({"type": "result", "subtype": "success", "is_error": False, "result": "fine"})
            continue
        prompt_taken(uuid)
        if MODE == "exits":
            return
        if MODE == "forgets":
            say({"type": "command_lifecycle", "command_uuid": uuid, "state": "completed"})
            say({"type": "system", "subtype": "session_state_changed", "state": "idle"})
        elif MODE == "asks":
            request = {"subtype": "can_use_tool", "tool_name": "Bash", "input": {}, "tool_use_id": "toolu_1"}
            say({"type": "control_request", "request_id": "their-1", "request": request})
            answer = json.loads(sys.stdin.readline())
            say({"type": "their_answer", "answer": answer})
            finish(uuid)
        elif MODE == "oversize":
            print("x" * 200_000, flush=True)
            finish(uuid)
        elif MODE == "late":
            # 900 KB at the very end: what a reader that stalls would lose
            say({"type": "assistant", "message": {"content": [{"type": "text", "text": "y" * 900_000}]}})
            finish(uuid)
            os._exit(0)
        elif MODE == "deaf":
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            time.sleep(600)
        else:
            finish(uuid)


main()
