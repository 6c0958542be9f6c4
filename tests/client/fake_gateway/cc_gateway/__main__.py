"""A stand-in for `python -m cc_gateway` (put before the real one by PYTHONPATH): the stub, or whatever FAKE asks for."""

import json
import os
import signal
import sys
import threading
from pathlib import Path

from client.stub_gateway import TOKEN, StubGateway, serving

fake = os.environ.get("FAKE", "")
if sys.argv[1] != "serve" or fake == "argv":
    print("argv:", *sys.argv[1:])
    sys.exit(0)
if fake == "crash":
    print("starting", flush=True)
    print("error: port 8080 is already in use", flush=True)
    sys.exit(3)

folder = Path(sys.argv[sys.argv.index("--data-dir") + 1])
stopped = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopped.set())
with serving(StubGateway(ending=os.environ.get("ENDING", "completed"), hold=bool(os.environ.get("HOLD")))) as stub:
    known = {"url": stub.url, "pid": os.getpid(), "token": TOKEN, "version": "0", "model": "scripted model",
             "scripted": True, "driver": "process", "isolated": False}  # fmt: skip
    (folder / "gateway.json").write_text(json.dumps(known))
    print("args:", *sys.argv[1:], flush=True)
    stopped.wait()
(folder / "gateway.json").unlink()
(folder / "stopped").write_text("in an orderly way")
