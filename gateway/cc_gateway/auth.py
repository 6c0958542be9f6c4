"""Tokens: made and checked here and nowhere else.

Two kinds that never pass for one another. A *user token* (HS256 by us, or RS256 by an outside issuer) opens the public
listener. A *session token* opens the internal listener for one incarnation of one session.

python-jose checks less than one would think (measured on 3.5.0: it accepts a missing `exp` or `aud`, an unknown `crit`, an
`iat` in the future, keys of four bytes, and DER keys as HMAC secrets). So the algorithm list is literal, keys are checked at
start, and every claim is required and checked below.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jose import ExpiredSignatureError, JWTError, jwt

from cc_gateway.errors import StartupError, Unauthenticated
from cc_gateway.models import Principal
from cc_gateway.settings import AuthSettings

CLAIMS: Final = ("exp", "iat", "iss", "aud", "sub", "jti")
SESSION_AUDIENCE: Final = "cc-docker-session"
LEEWAY: Final = 30  # seconds that clocks may differ
MIN_SECRET_BYTES: Final = 32
MAX_TOKEN_LENGTH: Final = 8192
MAX_SEEN: Final = 10_000
_OPTIONS: Final = {f"require_{claim}": True for claim in CLAIMS} | {"verify_at_hash": False, "leeway": LEEWAY}


@dataclass(frozen=True)
class SessionClaim:
    """What a session token says: good for one incarnation of one session."""

    session_id: str
    incarnation: int


class Tokens:
    """Makes and checks tokens. Raises `StartupError` for keys that are too weak to start with."""

    def __init__(self, settings: AuthSettings, secret: str, *, clock: Callable[[], float] = time.time) -> None:
        if len(secret.encode()) < MIN_SECRET_BYTES:
            raise StartupError(
                f"CC_JWT_SECRET is too short: {MIN_SECRET_BYTES} bytes or more are needed"
                " (python3 -c 'import secrets; print(secrets.token_urlsafe(48))')",
                code="weak_jwt_secret",
            )
        if settings.jwt_public_key and "BEGIN PUBLIC KEY" not in settings.jwt_public_key:
            raise StartupError("CC_JWT_PUBLIC_KEY must be a PEM public key", code="bad_jwt_public_key")
        if bool(settings.jwt_public_key) != bool(settings.jwt_outside_issuer):
            raise StartupError(
                "CC_JWT_PUBLIC_KEY and CC_JWT_OUTSIDE_ISSUER belong together: set both or neither",
                code="bad_jwt_public_key",
            )
        self._settings = settings
        self._secret = secret
        self._clock = clock
        self._seen: dict[str, tuple[SessionClaim, float]] = {}

    def mint_user(self, subject: str, *, hours: float | None = None) -> str:
        lifetime = (self._settings.token_hours if hours is None else hours) * 3600
        return self._mint(self._settings.jwt_audience, subject, lifetime)

    def mint_session(self, claim: SessionClaim) -> str:
        """Good as long as its incarnation lives: the listener checks that against the session's row."""
        return self._mint(SESSION_AUDIENCE, claim.session_id, 366 * 86_400, inc=claim.incarnation)

    def verify_user(self, token: str) -> Principal:
        """Who this is. Raises `Unauthenticated`."""
        issuer, key, algorithm = self._key_of(token)
        claims = self._verify(token, key, algorithm, self._settings.jwt_audience, issuer)
        return Principal(claims["sub"], claims["jti"])

    def verify_session(self, token: str) -> SessionClaim:
        """Which session and incarnation this is. Raises `Unauthenticated`."""
        if token in self._seen:  # a model request has no time for the signature of the same token again
            claim, expires = self._seen[token]
            if self._clock() < expires:
                return claim
        claims = self._verify(token, self._secret, "HS256", SESSION_AUDIENCE, self._settings.jwt_issuer)
        incarnation = claims.get("inc")
        if type(incarnation) is not int:
            raise Unauthenticated("not a session token", code="invalid_token")
        claim = SessionClaim(claims["sub"], incarnation)
        if len(self._seen) >= MAX_SEEN:
            self._seen.clear()
        self._seen[token] = claim, claims["exp"]
        return claim

    def _mint(self, audience: str, subject: str, lifetime: float, **extra: Any) -> str:
        issued = int(self._clock())
        claims = {
            "iss": self._settings.jwt_issuer,
            "aud": audience,
            "sub": subject,
            "iat": issued,
            "exp": issued + int(lifetime),
            "jti": secrets.token_urlsafe(12),
            **extra,
        }
        return str(jwt.encode(claims, self._secret, algorithm="HS256"))

    def _key_of(self, token: str) -> tuple[str, str, str]:
        """Issuer, key and the one algorithm of that key, chosen by the (unchecked) `iss`."""
        settings = self._settings
        if settings.jwt_public_key and settings.jwt_outside_issuer:
            try:
                issuer = jwt.get_unverified_claims(token[:MAX_TOKEN_LENGTH]).get("iss")
            except (JWTError, ValueError, TypeError):
                raise Unauthenticated("the token cannot be read", code="invalid_token") from None
            if issuer == settings.jwt_outside_issuer:
                return settings.jwt_outside_issuer, settings.jwt_public_key, "RS256"
        return settings.jwt_issuer, self._secret, "HS256"

    def _verify(self, token: str, key: str, algorithm: str, audience: str, issuer: str) -> dict[str, Any]:
        if len(token) > MAX_TOKEN_LENGTH:
            raise Unauthenticated("the token is too long", code="invalid_token")
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") != algorithm or "crit" in header or header.get("typ", "JWT") != "JWT":
                raise Unauthenticated("the token's header is not one of ours", code="invalid_token")
            claims = jwt.decode(token, key, algorithms=[algorithm], audience=audience, issuer=issuer, options=_OPTIONS)
        except ExpiredSignatureError:
            raise Unauthenticated("the token has expired", code="token_expired") from None
        except (JWTError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise Unauthenticated(f"the token is not valid: {error}", code="invalid_token") from None
        self._check_claims(claims, audience)
        return claims  # type: ignore[no-any-return]

    def _check_claims(self, claims: dict[str, Any], audience: str) -> None:
        """What the library does not check, or not always."""
        moment = self._clock()
        for name in ("exp", "iat"):
            if type(claims.get(name)) not in (int, float):
                raise Unauthenticated(f"the token's {name} is missing or no number", code="invalid_token")
        if claims["exp"] + LEEWAY < moment:
            raise Unauthenticated("the token has expired", code="token_expired")
        if claims["iat"] - LEEWAY > moment:
            raise Unauthenticated("the token was issued in the future", code="invalid_token")
        for name in ("iss", "sub", "jti"):
            value = claims.get(name)
            if not isinstance(value, str) or not 0 < len(value) <= 255 or not value.isprintable():
                raise Unauthenticated(f"the token's {name} is missing or no text", code="invalid_token")
        if claims.get("aud") != audience:
            raise Unauthenticated("the token is for another audience", code="invalid_token")


def load_secret(settings: AuthSettings, data_dir: Path) -> str:
    """The signing secret of the settings, else one that is made once and kept in the data folder (mode 0600)."""
    if settings.jwt_secret:
        return settings.jwt_secret.get_secret_value()
    path = data_dir / "jwt.secret"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        secret = secrets.token_urlsafe(48)
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        temporary.touch(mode=0o600)
        temporary.write_text(secret)
        temporary.replace(path)
        return secret
