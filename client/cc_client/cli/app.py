"""The command's front: every subcommand with its arguments, help and example. The work is done in its neighbours."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final, get_args

import typer

from cc_client.cli import record, sessions
from cc_client.cli.chat import Chat, ChatOptions
from cc_client.cli.execute import execute, last_resort
from cc_client.cli.run import Opening, Run, RunOptions
from cc_protocol.launch import PermissionMode

app = typer.Typer(
    name="cc-docker",
    help="Run the Claude Code CLI as a service that you host, and talk to it.",
    epilog="Start here: cc-docker run 'list the files here and say hello'",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

MODES: Final = get_args(PermissionMode)
_PASS_ON: Final[dict[str, Any]] = {
    "add_help_option": False,
    "context_settings": {
        "ignore_unknown_options": True,
        "allow_extra_args": True,
        "allow_interspersed_args": False,
        "help_option_names": [],
    },
}


def _mode(value: str | None) -> str | None:
    if value is not None and value not in MODES:
        raise typer.BadParameter(f"one of {', '.join(MODES)}")
    return value


def _text(path: Path | None) -> str | None:
    """The script's text."""
    try:
        return path.read_text(encoding="utf-8") if path else None
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"cannot be read: {error}", param_hint="--setup") from None


def _check_workspace(workspace: str | None, repo: str | None, branch: str | None) -> None:
    if workspace and repo:
        raise typer.BadParameter("either --workspace or --repo", param_hint="--repo")
    if branch and not repo:
        raise typer.BadParameter("it needs a --repo", param_hint="--branch")


SessionArg = Annotated[str, typer.Argument(metavar="SESSION", help="Its id, or the beginning or end of it.")]
Model = Annotated[str | None, typer.Option(help="Model of the session. Default: the gateway's.")]
Workspace = Annotated[str | None, typer.Option(metavar="ID", help="Persistent workspace by this name.")]
Repo = Annotated[str | None, typer.Option(metavar="URL", help="Begin with a clone of this git repository.")]
Branch = Annotated[str | None, typer.Option(metavar="NAME", help="Branch or tag of the repository.")]
Mode = Annotated[
    str | None, typer.Option(metavar="MODE", callback=_mode, help=f"What the agent may do unasked: {', '.join(MODES)}.")
]
Title = Annotated[str | None, typer.Option(help="Title of the session.")]
Setup = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Shell script that runs in the session before the agent starts.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")]


# ---------------------------------------------------------------- the gateway's own commands


def _gateway(command: str, context: typer.Context) -> None:
    """Become the gateway's command: it takes over this process with all its arguments."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "cc_gateway", command, *context.args])  # noqa: S606 (no shell is wanted)


@app.command(epilog="Example: cc-docker serve --port 8080", **_PASS_ON)
def serve(context: typer.Context) -> None:
    """Start the gateway and serve until Ctrl-C."""
    _gateway("serve", context)


@app.command(epilog="Example: cc-docker token --subject alice --hours 24", **_PASS_ON)
def token(context: typer.Context) -> None:
    """Make a token for the gateway's API."""
    _gateway("token", context)


@app.command("scripted-model", epilog="Example: cc-docker scripted-model --port 9000", **_PASS_ON)
def scripted_model(context: typer.Context) -> None:
    """Serve the scripted model alone.

    It is a Messages API that needs no account.
    """
    _gateway("scripted-model", context)


@app.command(epilog="Example: cc-docker doctor --json", **_PASS_ON)
def doctor(context: typer.Context) -> None:
    """Look whether sessions can run here.

    It says what is wrong and the command that mends it, and changes nothing.
    """
    _gateway("doctor", context)


# ---------------------------------------------------------------- prompts


@app.command(epilog="Example: cc-docker run 'list the files here and say hello' --once")
def run(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to ask; `-` reads it from standard input.")],
    once: Annotated[bool, typer.Option("--once", help="Exit after the turn, with 0, 1 (failed) or 130.")] = False,
    model: Model = None,
    workspace: Workspace = None,
    permission_mode: Mode = None,
    title: Title = None,
    setup: Setup = None,
    repo: Repo = None,
    branch: Branch = None,
    timeout: Annotated[
        float | None, typer.Option(min=1, max=86_400, metavar="SECONDS", help="Interrupt the turn after this long.")
    ] = None,
    as_json: AsJson = False,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port of the gateway that is started; 0 takes a free one.")
    ] = None,
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Let a real model run any command although nothing isolates it.")
    ] = False,
    scripted: Annotated[
        bool, typer.Option("--scripted", help="Use the scripted model even where a key is set.")
    ] = False,
) -> None:
    """Send one prompt and watch the agent's work.

    Where no gateway runs, one is started, and serves on until Ctrl-C.
    """
    text = sys.stdin.read() if prompt == "-" else prompt
    if not text.strip():
        raise typer.BadParameter("the prompt is empty", param_hint="PROMPT")
    _check_workspace(workspace, repo, branch)
    opening = Opening(model, workspace, permission_mode, title, timeout, _text(setup), repo, branch)
    execute(Run(RunOptions(text, opening, once, as_json, port, unsafe, scripted))())


@app.command(epilog="Example: cc-docker chat --new --workspace my-repo")
def chat(
    session: Annotated[
        str | None, typer.Argument(metavar="[SESSION]", help="Default: the session that was opened last.")
    ] = None,
    new: Annotated[bool, typer.Option("--new", help="Open a new session.")] = False,
    model: Model = None,
    workspace: Workspace = None,
    permission_mode: Mode = None,
    title: Title = None,
    setup: Setup = None,
    repo: Repo = None,
    branch: Branch = None,
) -> None:
    """Talk with an agent, prompt by prompt.

    Ctrl-C interrupts the agent, Ctrl-D or /exit leaves; other slash commands go to the agent.
    """
    _check_workspace(workspace, repo, branch)
    opening = Opening(model, workspace, permission_mode, title, None, _text(setup), repo, branch)
    if session and (new or opening != Opening()):
        raise typer.BadParameter("--new, --model, … are for a new session", param_hint="SESSION")
    Chat(ChatOptions(session, new or opening != Opening(), opening)).run()


# ---------------------------------------------------------------- sessions


@app.command("sessions", epilog="Example: cc-docker sessions --status idle")
def list_sessions(
    status: Annotated[str | None, typer.Option(help="Only those that are idle, running, stopped, …")] = None,
    as_json: AsJson = False,
) -> None:
    """List your sessions, newest first."""
    execute(sessions.list_all(status, as_json=as_json))


@app.command(epilog="Example: cc-docker show sesn_01k9x")
def show(session: SessionArg, as_json: AsJson = False) -> None:
    """Show a session and its turns."""
    execute(sessions.show(session, as_json=as_json))


@app.command(epilog="Example: cc-docker messages 4v8w0")
def messages(session: SessionArg, as_json: AsJson = False) -> None:
    """Print the conversation of a session."""
    execute(record.messages(session, as_json=as_json))


@app.command(epilog="Example: cc-docker events 4v8w0 --follow --types agent.message,turn.completed")
def events(
    session: SessionArg,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    after: Annotated[int, typer.Option(min=0, metavar="N", help="Only events behind number N.")] = 0,
    types: Annotated[str | None, typer.Option(metavar="A,B", help="Only events of these types.")] = None,
    as_json: AsJson = False,
    raw: Annotated[bool, typer.Option("--raw", help="Also the CLI's own lines (not with --follow).")] = False,
) -> None:
    """Print what happened, event by event."""
    execute(record.events(session, record.Wanted(follow, after, types, as_json, raw)))


@app.command(epilog="Example: cc-docker logs 4v8w0 --tail 50")
def logs(
    session: SessionArg,
    tail: Annotated[int, typer.Option(min=1, max=5000, metavar="N", help="How many lines, from the end.")] = 200,
) -> None:
    """Print what the session's wrapper wrote.

    For whoever looks for the cause of a failure; `events` has the record.
    """
    execute(record.logs(session, tail))


@app.command(epilog="Example: cc-docker interrupt 4v8w0")
def interrupt(session: SessionArg) -> None:
    """Interrupt the turn that runs in a session."""
    execute(sessions.interrupt(session))


@app.command(epilog="Example: cc-docker stop 4v8w0")
def stop(session: SessionArg) -> None:
    """Stop a session; a prompt starts it again.

    Its files and conversation stay.
    """
    execute(sessions.stop(session))


@app.command(epilog="Example: cc-docker rm 4v8w0 --yes")
def rm(
    session: Annotated[list[str], typer.Argument(metavar="SESSION...", help="Ids, or their beginnings or ends.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete sessions with their conversations.

    Persistent workspaces stay.
    """
    execute(sessions.remove(session, yes=yes))


def main() -> None:
    """The entry point `cc-docker`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        app()
    except Exception as error:
        sys.exit(last_resort(error))
