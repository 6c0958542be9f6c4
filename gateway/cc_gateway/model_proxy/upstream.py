"""Which model is behind the proxy, and what opens its door."""

from dataclasses import dataclass, field
from pathlib import Path

from cc_gateway.settings import ModelSettings

ANTHROPIC_URL = "https://api.anthropic.com"
OAUTH_BETA = "oauth-2025-04-20"


@dataclass(frozen=True)
class Upstream:
    """A server that speaks the Messages API."""

    name: str
    base_url: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    betas: tuple[str, ...] = ()
    unix_socket: Path | None = None
    scripted: bool = False


def choose_upstream(settings: ModelSettings, scripted_socket: Path) -> Upstream:
    """The first that is configured: a server by URL, an API key, an OAuth token; else the scripted model."""
    if not settings.scripted:
        if settings.model_url:
            key = settings.model_key.get_secret_value() if settings.model_key else None
            return Upstream("model server", settings.model_url.rstrip("/"), {"x-api-key": key} if key else {})
        if settings.anthropic_api_key:
            return Upstream(
                "Anthropic (API key)", ANTHROPIC_URL, {"x-api-key": settings.anthropic_api_key.get_secret_value()}
            )
        if settings.oauth_token:
            bearer = f"Bearer {settings.oauth_token.get_secret_value()}"
            return Upstream("Anthropic (OAuth)", ANTHROPIC_URL, {"authorization": bearer}, betas=(OAUTH_BETA,))
    return Upstream("scripted model", "http://scripted", unix_socket=scripted_socket, scripted=True)
