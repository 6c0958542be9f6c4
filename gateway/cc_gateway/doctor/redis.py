"""Whether the Redis that is configured can be used, or which one the gateway would run."""

import asyncio
import shlex
import subprocess
from collections.abc import AsyncIterator
from typing import Any, Final

from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError
from redis.utils import str_if_bytes

from cc_gateway.doctor.check import Check, Finding, Trouble, failure, in_thread, ok
from cc_gateway.doctor.subject import Subject
from cc_gateway.doctor.words import milliseconds, shown
from cc_gateway.errors import StartupError
from cc_gateway.redis.access import username
from cc_gateway.redis.bus import BoundedRedis, connect
from cc_gateway.redis.embedded import OLDEST, find_server
from cc_gateway.redis.endpoint import RedisEndpoint
from cc_protocol import keys

SESSION: Final = "doctor"
NEEDED: Final = (
    ("ACL", "SETUSER", username(SESSION)),
    ("ACL", "DELUSER", username(SESSION)),
    ("XADD", keys.input_stream(SESSION), "*", "c", "x"),
    ("XREAD", "STREAMS", keys.outbox_stream(SESSION, 1), "0"),
    ("XDEL", keys.outbox_stream(SESSION, 1), "0-1"),
    ("DEL", keys.input_stream(SESSION)),
    ("PUBLISH", keys.output_channel(SESSION), "x"),
    ("SUBSCRIBE", keys.output_channel(SESSION)),
)
"""What the gateway asks of Redis; only tried on its rules, not done."""

EMBEDDED: Final = "or unset CC_REDIS_URL for one of the gateway's own"


def checks(subject: Subject) -> list[Check]:
    return [Check("redis", lambda: _redis(subject), f"see that it is well, and how far away; {EMBEDDED}")]


async def _redis(subject: Subject) -> Finding:
    configured = subject.settings.redis.redis_url
    if configured is None:
        return await in_thread(_embedded)
    return await _configured(configured.get_secret_value())


def _embedded() -> Finding:
    try:
        binary = find_server()
        done = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (StartupError, OSError, subprocess.TimeoutExpired) as error:
        return failure("none to run", str(error), "sudo apt-get install redis-server, or set CC_REDIS_URL")
    if done.returncode != 0:
        said = done.stderr.strip() or f"status {done.returncode}"
        return failure(f"{binary} does not run", said, "sudo apt-get install redis-server, or set CC_REDIS_URL")
    version = next((part[2:] for part in done.stdout.split() if part.startswith("v=")), "")
    return ok(f"one of the gateway's own ({binary}, {version})")


# ---------------------------------------------------------------- one by its address


async def _configured(url: str) -> Finding:
    place = shown(url)
    try:
        endpoint = RedisEndpoint.from_url(url)
        client = connect(url)
    except (StartupError, ValueError) as error:
        said = error.message if isinstance(error, StartupError) else "its address cannot be read"
        return failure(place, said, f"CC_REDIS_URL=redis://USER:PASSWORD@HOST:6379/0, {EMBEDDED}")
    try:
        return await _looked_at(client, endpoint, place)
    except AuthenticationError as error:
        mend = "check user and password in CC_REDIS_URL (special characters as percent codes, such as %40 for @)"
        return failure(place, f"it refuses the login: {error}", mend)
    except (RedisError, OSError) as error:
        mend = f"check that it runs, and that it is the one of CC_REDIS_URL: {_cli(endpoint)} PING; {EMBEDDED}"
        return failure(place, f"it cannot be reached: {error or 'no answer in time'}", mend)
    finally:
        await client.aclose()


async def _looked_at(client: BoundedRedis, endpoint: RedisEndpoint, place: str) -> Finding:
    await client.ping()
    latency = min([await _ping(client) for _ in range(5)])
    troubles = [trouble async for trouble in _access(client, endpoint)]
    try:
        facts = await client.info()
    except (NoPermissionError, ResponseError):  # its version shows in what it allows
        return ok(f"{place}, {milliseconds(latency)}", *troubles)
    name, version = "Redis", str(facts.get("redis_version", "0"))
    troubles += _server(facts, version, endpoint)
    if "valkey_version" in facts:
        name, version = "Valkey", str(facts["valkey_version"])
    return ok(f"{name} {version} at {place}, {milliseconds(latency)}", *troubles)


async def _ping(client: BoundedRedis) -> float:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await client.ping()
    return loop.time() - begun


async def _access(client: BoundedRedis, endpoint: RedisEndpoint) -> AsyncIterator[Trouble]:
    """Strangers are turned away, and the gateway may do what it has to."""
    try:
        await endpoint.refuse_open()
    except StartupError:
        yield Trouble(
            "it answers without a password: any session could read all others",
            "`requirepass SECRET` in redis.conf, start it again, and set CC_REDIS_URL=redis://:SECRET@HOST:6379/0",
        )
    try:
        user = str_if_bytes(await client.execute_command("ACL", "WHOAMI"))
    except ResponseError as error:
        yield Trouble(f"it does not tell who we are: {error}", _grant(endpoint, "USER"))
        return
    for command in NEEDED:
        try:
            said = str_if_bytes(await client.execute_command("ACL", "DRYRUN", user, *command))
        except ResponseError as error:
            yield Trouble(f"whether {user} may do all it has to is not told: {error}", _grant(endpoint, user), False)
            return
        if said != "OK":
            yield Trouble(f"{user} may not {' '.join(command[:2])}: {said}", _grant(endpoint, user))
            return


def _server(facts: dict[str, Any], version: str, endpoint: RedisEndpoint) -> list[Trouble]:
    troubles = []
    if int(version.partition(".")[0] or 0) < OLDEST:
        troubles.append(Trouble(f"version {version} is too old: {OLDEST} is needed", f"upgrade it, {EMBEDDED}"))
    if facts.get("role") == "slave":
        mend = f"name its primary, {facts.get('master_host')}:{facts.get('master_port')}, in CC_REDIS_URL"
        troubles.append(Trouble("it is a replica, which cannot be written", mend))
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        mend = f"{_cli(endpoint)} CONFIG SET maxmemory-policy noeviction, and the same in redis.conf"
        problem = f"maxmemory-policy is {policy}: short of memory, it drops what sessions and gateway say to each other"
        troubles.append(Trouble(problem, mend, fatal=False))
    return troubles


def _grant(endpoint: RedisEndpoint, user: str) -> str:
    return f"as its administrator: {_cli(endpoint)} ACL SETUSER {user} on '~*' '&*' +@all"


def _cli(endpoint: RedisEndpoint) -> str:
    if endpoint.path:
        return f"redis-cli -s {shlex.quote(endpoint.path)}"
    return f"redis-cli -h {shlex.quote(endpoint.host)} -p {endpoint.port}" + (" --tls" if endpoint.tls else "")
