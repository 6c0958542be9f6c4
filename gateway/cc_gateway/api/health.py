"""Health, the only routes without a token, and metrics."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest

from cc_gateway import __version__
from cc_gateway.api.answers import Health
from cc_gateway.api.deps import Caller, Deps
from cc_gateway.api.errors import documented
from cc_gateway.errors import CCError
from cc_gateway.models import SessionStatus

router = APIRouter(tags=["health"])

SESSIONS = Gauge("cc_sessions", "Sessions by status", ["status"])
FOLLOWERS = Gauge("cc_followers", "Listeners that follow a session now")


@router.get("/health/live", summary="Whether the process answers")
async def live() -> Health:
    return Health(status="ok", version=__version__)


@router.get("/health", summary="Whether all parts work", responses={503: {"model": Health}})
async def health(deps: Deps, response: Response) -> Health:
    """200 where all parts work, else 503, with what is wrong part by part."""
    checks = {"database": "ok", "redis": "ok"}
    try:
        await deps.database.ping()
    except CCError as error:
        checks["database"] = error.message
    if not await deps.bus.alive():
        checks["redis"] = "Redis does not answer"
    well = all(state == "ok" for state in checks.values())
    response.status_code = 200 if well else 503
    return Health(status="ok" if well else "degraded", version=__version__, checks=checks)


@router.get("/health/ready", summary="Whether requests can be taken", responses={503: {"model": Health}})
async def ready(deps: Deps, response: Response) -> Health:
    """The same as `/health`: for a load balancer."""
    return await health(deps, response)


@router.get(
    "/metrics",
    response_class=Response,
    summary="Prometheus metrics",
    responses=documented() | {200: {"content": {"text/plain": {}}, "description": "In the Prometheus text format."}},
)
async def metrics(deps: Deps, _caller: Caller) -> Response:
    """Wants a token like the API: Prometheus gives one as `authorization: {credentials_file: …}`."""
    counts = await deps.reader.sessions_by_status()
    for status in SessionStatus:
        SESSIONS.labels(status.value).set(counts.get(status.value, 0))
    FOLLOWERS.set(deps.feed.followers)
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
