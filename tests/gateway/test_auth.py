"""Tokens: what is let in, and every known way in which a token may lie."""

import base64
import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jose import jwt

from cc_gateway.auth import LEEWAY, SessionClaim, Tokens, load_secret
from cc_gateway.errors import StartupError, Unauthenticated
from cc_gateway.settings import AuthSettings

SECRET = "s" * 48
OUTSIDE = "https://issuer.example"


@pytest.fixture(scope="module")
def rsa_key() -> tuple[str, str, bytes]:
    """Private PEM, public PEM, public DER."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    public = key.public_key()
    style = serialization.PublicFormat.SubjectPublicKeyInfo
    return (
        private,
        public.public_bytes(serialization.Encoding.PEM, style).decode(),
        public.public_bytes(serialization.Encoding.DER, style),
    )


def settings(**values: Any) -> AuthSettings:
    return AuthSettings(_env_file=None, **values)  # type: ignore[call-arg]


@pytest.fixture
def tokens() -> Tokens:
    return Tokens(settings(), SECRET)


def claims(**changes: Any) -> dict[str, Any]:
    """The claims of a good token, with changes; None takes one away."""
    good = {
        "iss": "cc-docker",
        "aud": "cc-docker-api",
        "sub": "somebody",
        "iat": int(time.time()),
        "exp": int(time.time()) + 600,
        "jti": "one",
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def signed(payload: dict[str, Any], *, key: Any = SECRET, algorithm: str = "HS256", **headers: Any) -> str:
    return str(jwt.encode(payload, key, algorithm=algorithm, headers=headers or None))


def test_a_token_of_ours_says_who_asks(tokens: Tokens) -> None:
    assert tokens.verify_user(tokens.mint_user("somebody")).subject == "somebody"
    assert tokens.verify_user(signed(claims())).subject == "somebody"  # positive control of the hostile ones below


@pytest.mark.parametrize("claim", ["exp", "iat", "iss", "aud", "sub", "jti"])
def test_every_claim_is_required(tokens: Tokens, claim: str) -> None:
    with pytest.raises(Unauthenticated):
        tokens.verify_user(signed(claims(**{claim: None})))


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": -LEEWAY - 5},
        {"exp": "tomorrow"},
        {"exp": True},
        {"iat": LEEWAY + 60},
        {"nbf": 3600},
        {"aud": "another"},
        {"aud": ["cc-docker-api", "another"]},
        {"aud": "cc-docker-session"},
        {"iss": "another"},
        {"sub": ""},
        {"sub": "x" * 256},
        {"sub": "a\0b"},
        {"sub": "a\ud800b"},
        {"jti": 7},
    ],
)
def test_a_claim_that_is_wrong_shuts_out(tokens: Tokens, changes: dict[str, Any]) -> None:
    for name in ("exp", "iat", "nbf"):
        if type(changes.get(name)) is int:  # seconds from now, and not from when the tests were collected
            changes = {name: int(time.time()) + changes[name]}
    with pytest.raises(Unauthenticated):
        tokens.verify_user(signed(claims(**changes)))


def test_unknown_critical_headers_and_types_are_refused(tokens: Tokens) -> None:
    for headers in ({"crit": ["b64"]}, {"typ": "at+jwt"}, {"crit": []}):
        with pytest.raises(Unauthenticated):
            tokens.verify_user(signed(claims(), **headers))


def test_an_unsigned_token_is_refused(tokens: Tokens) -> None:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    for algorithm in ("none", "None", "NONE"):
        with pytest.raises(Unauthenticated):
            tokens.verify_user(f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims())}.")


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_only_the_one_algorithm_is_taken(tokens: Tokens, algorithm: str) -> None:
    with pytest.raises(Unauthenticated):
        tokens.verify_user(signed(claims(), algorithm=algorithm))


def test_another_secret_is_refused(tokens: Tokens) -> None:
    with pytest.raises(Unauthenticated):
        tokens.verify_user(signed(claims(), key="t" * 48))


@pytest.mark.parametrize(
    "text", ["", "a", "a.b", "a.b.c", "a.b.c.d", "é.é.é", "." * 50, "x" * 9000, "bnVsbA.bnVsbA.bnVsbA"]
)
def test_rubbish_is_refused(tokens: Tokens, text: str) -> None:
    with pytest.raises(Unauthenticated):
        tokens.verify_user(text)


def test_user_and_session_tokens_never_pass_for_one_another(tokens: Tokens) -> None:
    claim = SessionClaim("sesn_x", 3)
    assert tokens.verify_session(tokens.mint_session(claim)) == claim
    with pytest.raises(Unauthenticated):
        tokens.verify_user(tokens.mint_session(claim))
    with pytest.raises(Unauthenticated):
        tokens.verify_session(tokens.mint_user("somebody"))
    with pytest.raises(Unauthenticated):
        tokens.verify_session(signed(claims(aud="cc-docker-session", inc="3")))


def test_an_outside_issuer_is_let_in_by_its_own_key_alone(rsa_key: tuple[str, str, bytes]) -> None:
    private, public, der = rsa_key
    tokens = Tokens(settings(jwt_public_key=public, jwt_outside_issuer=OUTSIDE), SECRET)
    payload = claims(iss=OUTSIDE)
    assert tokens.verify_user(signed(payload, key=private, algorithm="RS256")).subject == "somebody"
    assert tokens.verify_user(tokens.mint_user("me")).subject == "me"
    for token in (
        signed(payload),  # our secret, their name
        signed(claims(), key=private, algorithm="RS256"),  # their key, our name
        signed(payload, key=base64.b64encode(der).decode()),  # their public key as a shared secret
    ):
        with pytest.raises(Unauthenticated):
            tokens.verify_user(token)


def test_weak_keys_do_not_start(rsa_key: tuple[str, str, bytes]) -> None:
    with pytest.raises(StartupError, match="32 bytes"):
        Tokens(settings(), "short")
    with pytest.raises(StartupError, match="PEM"):
        Tokens(settings(jwt_public_key="not a key", jwt_outside_issuer=OUTSIDE), SECRET)
    with pytest.raises(StartupError, match="belong together"):
        Tokens(settings(jwt_public_key=rsa_key[1]), SECRET)


def test_the_made_secret_is_kept_and_closed_to_others(tmp_path: Any) -> None:
    first = load_secret(settings(), tmp_path / "data")
    assert load_secret(settings(), tmp_path / "data") == first
    assert len(first) >= 48
    assert (tmp_path / "data" / "jwt.secret").stat().st_mode & 0o077 == 0
