"""A session that all tests of a module share, where isolation is not the point: a start costs seconds."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from jose import jwt

from support.api import Api
from support.gateway import GatewayProcess


def token_of(gateway: GatewayProcess, subject: str, **claims: Any) -> str:
    """A token such as `cc-docker token` makes, or one with other claims; in no time (a process takes seconds)."""
    now = int(time.time())
    said = {"iss": "cc-docker", "aud": "cc-docker-api", "sub": subject, "iat": now, "exp": now + 3600}
    secret = (gateway.data_dir / "jwt.secret").read_text().strip()
    return str(jwt.encode(said | {"jti": secrets.token_hex(8)} | claims, secret, algorithm="HS256"))


@dataclass(frozen=True)
class Common:
    """The shared session, of an owner whose sessions the `api` fixture leaves alone."""

    gateway: GatewayProcess
    token: str
    session_id: str

    def api(self) -> Api:
        return self.gateway.api(self.token)


@contextmanager
def common_session(gateway: GatewayProcess, subject: str = "common", **body: Any) -> Iterator[Common]:
    token = token_of(gateway, subject)
    headers = {"authorization": f"Bearer {token}"}
    with httpx.Client(base_url=f"{gateway.url}/api/v1/", headers=headers, timeout=30, trust_env=False) as client:
        answer = client.post("sessions", json=body)
        assert answer.status_code == 201, answer.text
        session_id = answer.json()["session_id"]
        yield Common(gateway, token, session_id)
        client.delete(f"sessions/{session_id}")
