"""Which part of Redis a session may touch: one ACL user a session, its password new in each incarnation.

The new password is the fence: the wrapper of an older incarnation cannot come back. Only its hash is kept. The rule is the
one that held under test (Redis 7.0): XREADGROUP is left out because it passed a read-only key check.
"""

import hashlib
import secrets

from cc_gateway.redis.bus import BoundedRedis
from cc_protocol import keys


def new_password() -> tuple[str, str]:
    """A password, and the hash of it that Redis and the database keep."""
    password = secrets.token_urlsafe(32)
    return password, hashlib.sha256(password.encode()).hexdigest()


def username(session_id: str) -> str:
    return f"session-{session_id}"


async def grant(redis: BoundedRedis, session_id: str, incarnation: int, password_hash: str) -> None:
    """Let this incarnation in, and no other. Repeating it changes nothing."""
    await redis.execute_command(
        "ACL",
        "SETUSER",
        username(session_id),
        "reset",
        "on",
        f"#{password_hash}",
        f"%W~{keys.outbox_stream(session_id, incarnation)}",
        f"%R~{keys.input_stream(session_id)}",
        "resetchannels",
        f"&{keys.preview_channel(session_id)}",
        "-@all",
        "+xadd",
        "+xread",
        "+publish",
        "+ping",
    )


async def revoke(redis: BoundedRedis, session_id: str) -> None:
    """Shut the session out; its connections are cut."""
    await redis.execute_command("ACL", "DELUSER", username(session_id))


async def granted(redis: BoundedRedis, session_id: str) -> bool:
    user = await redis.execute_command("ACL", "GETUSER", username(session_id))
    return user is not None
