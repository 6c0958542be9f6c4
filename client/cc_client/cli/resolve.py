"""Sessions by a part of their id."""

from cc_client.client import Client
from cc_client.errors import UsageProblem
from cc_client.models import Session
from cc_client.render.clean import one_line
from cc_protocol.ids import SESSION, is_id


def matches(session_id: str, part: str) -> bool:
    """Whether `part` is the beginning (with or without `sesn_`) or the end of the id."""
    return session_id.startswith((part, f"{SESSION}_{part}")) or session_id.endswith(part)


async def resolve(client: Client, part: str) -> str:
    """The one session that is meant. Raises `UsageProblem` where none is, or several are."""
    if is_id(part, SESSION):
        return part
    found = [session for session in await client.all_sessions() if part and matches(session.session_id, part.lower())]
    if len(found) == 1:
        return found[0].session_id
    shown = one_line(part, 60)
    if not found:
        raise UsageProblem(f"no session's id begins or ends with “{shown}”", hint="`cc-docker sessions` lists them")
    raise UsageProblem(f"“{shown}” means {len(found)} sessions: {_some(found)}", hint="give more of the id")


def _some(found: list[Session]) -> str:
    ids = [session.session_id for session in found[:3]]
    return ", ".join(ids) + (", …" if len(found) > 3 else "")
