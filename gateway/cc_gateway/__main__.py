"""`python -m cc_gateway`: serve the gateway, make tokens, serve the scripted model, examine the machine, print documentation.

`cc-docker serve|token|scripted-model|doctor` call this.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn
from fastapi import FastAPI

from cc_gateway import logs
from cc_gateway.app import create_app
from cc_gateway.auth import Tokens, load_secret
from cc_gateway.docs import configuration, event_reference
from cc_gateway.errors import StartupError
from cc_gateway.model_proxy.scripted import ScenarioError, create_scripted_app, load_scenario_file
from cc_gateway.settings import Settings

try:
    import uvloop
except ImportError:  # not on every platform
    uvloop = None  # type: ignore[assignment]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
LOCAL_SUBJECT = "local"
LOCAL_TOKEN_HOURS = 24 * 30.0


def _apply(options: dict[str, Any]) -> Settings:
    """Command-line options are environment variables that win."""
    for name, value in options.items():
        if value is not None:
            os.environ[f"CC_{name.upper()}"] = str(value)
    return Settings.load()


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (CC_HOST, 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, 0 for a free one (CC_PORT, 8080).")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of all that is kept (CC_DATA_DIR).")] = None,
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Let a real model run anything, though nothing isolates it.")
    ] = False,
    scripted: Annotated[
        bool, typer.Option("--scripted", help="Use the scripted model even where a key is set.")
    ] = False,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Serve the gateway until it is told to stop (SIGTERM, Ctrl-C).

    Example: cc-docker serve --port 9000 --scripted
    """
    with _readable_errors():
        settings = _apply(
            {
                "host": host,
                "port": port,
                "data_dir": data_dir and data_dir.absolute(),
                "unsafe": unsafe or None,
                "scripted": scripted or None,
                "log_level": log_level,
            }
        )
        logs.configure(settings)
        os.umask(0o077)
        listener = _listen(settings.server.host, settings.server.port)
        _run(_serve(settings, listener))


def _run(main: Coroutine[Any, Any, None]) -> None:
    with (
        asyncio.Runner(loop_factory=uvloop.new_event_loop if uvloop else None) as runner,
        suppress(asyncio.CancelledError),
    ):
        runner.run(main)


class _Server(uvicorn.Server):
    """A server that leaves signals to us: uvicorn raises them again when it has stopped, before we have cleaned up."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, task)
        yield

    def _on_signal(self, task: "asyncio.Task[None] | None") -> None:
        """The first ends the server in order, the second without waiting for connections."""
        if not self.started and task:
            task.cancel()
        self.force_exit = self.should_exit
        self.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise StartupError(
            f"cannot listen on {host}:{port}: {error.strerror}. Choose another with --port (0 takes a free one) or --host",
            code="port_in_use",
        ) from error
    return listener


async def _serve(settings: Settings, listener: socket.socket) -> None:
    bound_host, bound_port = listener.getsockname()[:2]
    shown = "127.0.0.1" if bound_host == "0.0.0.0" else bound_host  # noqa: S104
    shown = f"[{shown}]" if ":" in shown else shown
    base_url = (settings.server.public_url or f"http://{shown}:{bound_port}").rstrip("/")
    application = create_app(settings, base_url=base_url)
    config = uvicorn.Config(
        application,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="websockets-sansio",
        ws_max_size=settings.limits.max_body_bytes,
        ws_ping_interval=settings.limits.websocket_ping_seconds,
        timeout_graceful_shutdown=5,
    )
    server = _Server(config)
    with server.capture_signals():
        async with application.router.lifespan_context(application):
            await _serve_open(application, server, listener, settings)


async def _serve_open(
    application: FastAPI, server: uvicorn.Server, listener: socket.socket, settings: Settings
) -> None:
    """Serve an application that is open; `gateway.json` says where as long as it is."""
    place = settings.data_dir / "gateway.json"
    gateway = application.state.gateway
    facts = gateway.describe() | {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "token": gateway.tokens.mint_user(LOCAL_SUBJECT, hours=LOCAL_TOKEN_HOURS),
    }
    _write_private(place, json.dumps(facts))
    logs.started(gateway.describe())
    try:
        await server.serve(sockets=[listener])
    finally:
        place.unlink(missing_ok=True)


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)


@app.command()
def token(
    subject: Annotated[str, typer.Option(help="Whose token: sessions belong to their subject.")] = LOCAL_SUBJECT,
    hours: Annotated[float | None, typer.Option(help="How long it is good for (CC_TOKEN_HOURS).", min=0.01)] = None,
    data_dir: Annotated[Path | None, typer.Option(help="The gateway's data folder (CC_DATA_DIR).")] = None,
) -> None:
    """Make a user token for the API and print it.

    Example: curl -H "Authorization: Bearer $(cc-docker token)" http://127.0.0.1:8080/api/v1/sessions
    """
    with _readable_errors():
        settings = _apply({"data_dir": data_dir and data_dir.absolute()})
        tokens = Tokens(settings.auth, load_secret(settings.auth, settings.data_dir))
        print(tokens.mint_user(subject, hours=hours))


@app.command(name="scripted-model")
def scripted_model(
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8090,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    scenario: Annotated[Path | None, typer.Option(help="Scenario file (JSON); prompts may carry their own.")] = None,
) -> None:
    """Serve the scripted model by itself: a Messages API for your own tests, without an account.

    Example: cc-docker scripted-model --port 8090, then ANTHROPIC_BASE_URL=http://127.0.0.1:8090 for any client
    """
    with _readable_errors():
        try:
            rules = load_scenario_file(scenario) if scenario else None
        except (ScenarioError, OSError) as error:
            raise StartupError(f"cannot use the scenario {scenario}: {error}", code="bad_scenario") from error
        listener = _listen(host, port)
        print(f"scripted model on http://{host}:{listener.getsockname()[1]}", flush=True)
        config = uvicorn.Config(create_scripted_app(rules), log_level="warning", access_log=False)
        _run(_Server(config).serve(sockets=[listener]))


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
    data_dir: Annotated[Path | None, typer.Option(help="The gateway's data folder (CC_DATA_DIR).")] = None,
) -> None:
    """Look whether sessions can run here: what is wrong, and the command that mends it. Nothing is changed.

    Example: cc-docker doctor --json
    """
    from cc_gateway.doctor.command import main as examine  # no other command has to wait for it

    if data_dir:
        os.environ["CC_DATA_DIR"] = str(data_dir.absolute())
    raise typer.Exit(examine(for_programs=as_json))


@app.command(hidden=True)
def docs(page: Annotated[str, typer.Argument(help="configuration, events or openapi.")]) -> None:
    """Print a generated page of the documentation."""
    if page == "openapi":
        print(json.dumps(create_app(Settings.load(), base_url="http://127.0.0.1:8080").openapi(), indent=2))
    else:
        print({"configuration": configuration, "events": event_reference}[page](), end="")


class _readable_errors:
    """A start that cannot be is two lines for people, not a traceback."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if isinstance(error, StartupError):
            print(f"cc-docker: {error.message} [{error.code}]", file=sys.stderr)
            raise SystemExit(1)
        return isinstance(error, KeyboardInterrupt)


if __name__ == "__main__":
    app()
