"""What the routes are given: the services, and who asks."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import HTTPConnection

from cc_gateway.auth import Tokens
from cc_gateway.errors import InvalidRequest, Unauthenticated
from cc_gateway.models import Principal, Session
from cc_gateway.redis.bus import Bus
from cc_gateway.services.feed import Feed
from cc_gateway.services.reading import Reader
from cc_gateway.services.sessions import SessionService
from cc_gateway.services.turns import TurnService
from cc_gateway.settings import LimitSettings
from cc_gateway.stores.engine import Database
from cc_gateway.stores.idempotency import fingerprint


@dataclass(frozen=True)
class Services:
    """What `create_app` wires together for the routes."""

    database: Database
    bus: Bus
    tokens: Tokens
    sessions: SessionService
    turns: TurnService
    feed: Feed
    reader: Reader
    limits: LimitSettings
    base_url: str


def services(connection: HTTPConnection) -> Services:
    found: Services = connection.app.state.services
    return found


async def _provided(connection: HTTPConnection) -> Services:
    """The same for routes: FastAPI calls what is not a coroutine in a thread, with every request."""
    return services(connection)


_bearer = HTTPBearer(auto_error=False, description="A user token: `cc-docker token`, or one of your own issuer.")


async def principal(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    if credentials is None:
        raise Unauthenticated("a token is needed: `Authorization: Bearer …` (cc-docker token makes one)")
    return services(request).tokens.verify_user(credentials.credentials)


Deps = Annotated[Services, Depends(_provided)]
Caller = Annotated[Principal, Depends(principal)]


async def own_session(session_id: str, caller: Caller, deps: Deps) -> Session:
    """The session of the path, if it is the caller's."""
    return await deps.sessions.get(caller.subject, session_id)


OwnSession = Annotated[Session, Depends(own_session)]


async def idempotency_key(
    request: Request,
    key: Annotated[
        str | None,
        Header(alias="Idempotency-Key", description="The same key again gives the same answer and no second effect."),
    ] = None,
) -> tuple[str, str] | None:
    """The key and the fingerprint of what is asked for with it."""
    if key is None:
        return None
    if not 0 < len(key) <= 255 or not key.isprintable():
        raise InvalidRequest("Idempotency-Key must have 1 to 255 printable characters", code="bad_idempotency_key")
    return key, fingerprint(f"{request.method} {request.url.path}", await request.body())


IdempotencyKey = Annotated[tuple[str, str] | None, Depends(idempotency_key)]
