"""Logging: one line a fact, as text for people or as JSON for machines, and never a secret."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from cc_gateway.settings import Settings

SECRET_KEYS = frozenset({"authorization", "password", "secret", "token", "x-api-key", "redis_password"})


def _redact(_logger: Any, _name: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The one place in the logs where secrets are taken out."""
    for key in entry:
        if key.lower() in SECRET_KEYS:
            entry[key] = "[redacted]"
    return entry


def configure(settings: Settings) -> None:
    level = settings.server.log_level.upper()
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _redact,
    ]
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if settings.text_logs()
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for noisy in ("uvicorn.access", "asyncio", "aiosqlite", "alembic", "websockets"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def started(facts: dict[str, Any]) -> None:
    """Say where the gateway is, which model answers, and what is not isolated."""
    log = structlog.get_logger("cc_gateway")
    log.info("gateway_started", **facts)
    if facts["scripted"]:
        log.warning(
            "the scripted model answers: set ANTHROPIC_API_KEY, CLAUDE_CODE_OAUTH_TOKEN or CC_MODEL_URL for a real one"
        )
    if not facts["isolated"]:
        log.warning(
            "nothing is isolated: sessions are plain processes of this machine (install bubblewrap to confine them)"
        )
