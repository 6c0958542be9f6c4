"""Which model would answer, whether it can be reached, and whether it takes the key: asked so that it costs nothing."""

import asyncio
import errno
import socket
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from cc_gateway.doctor.check import MODEL_SECONDS, Check, Finding, Trouble, failure, in_thread, note, ok
from cc_gateway.doctor.subject import Subject
from cc_gateway.doctor.words import in_container, milliseconds, shown
from cc_gateway.model_proxy.scripted import ScenarioError, load_scenario_file
from cc_gateway.model_proxy.upstream import Upstream, choose_upstream

VERSION: Final = "2023-06-01"
SHOWN: Final = 200


def checks(subject: Subject) -> list[Check]:
    late = "see whether a firewall is in the way, or a proxy has to be named: HTTPS_PROXY=http://…"
    return [Check("model", lambda: _model(subject), late, MODEL_SECONDS)]


def upstream_of(subject: Subject) -> Upstream:
    return choose_upstream(subject.settings.model, subject.layout.run_root / "scripted.sock")


def name_of(subject: Subject) -> str:
    """How the verdict calls it."""
    upstream = upstream_of(subject)
    return "the scripted model" if upstream.scripted else f"{upstream.name}, {shown(upstream.base_url)}"


async def _model(subject: Subject) -> Finding:
    upstream = upstream_of(subject)
    if upstream.scripted:
        return await _scripted(subject)
    name = name_of(subject)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    try:
        status, said = await _ask(upstream)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return _unreachable(upstream, name, error)
    trouble = _judge(upstream, status, said)
    if trouble is None:
        return ok(
            f"{name}: reached in {milliseconds(loop.time() - begun)}{', takes the key' if upstream.headers else ''}"
        )
    return ok(name, trouble)


async def _scripted(subject: Subject) -> Finding:
    model = subject.settings.model
    why = "CC_SCRIPTED is set" if model.scripted else "no key and no CC_MODEL_URL is set"
    if path := model.scenario_file:
        try:
            await in_thread(load_scenario_file, path)
        except (ScenarioError, OSError) as error:
            return failure("the scripted model", f"CC_SCENARIO_FILE={path} cannot be used: {error}", "mend or unset it")
    return note(f"the scripted model, which costs nothing and understands nothing ({why})")


async def _ask(upstream: Upstream) -> tuple[int, str]:
    """Ask for nothing: the list of models, which is free; else for a message without any of its fields, which is refused."""
    headers = {"anthropic-version": VERSION, **upstream.headers}
    if upstream.betas:
        headers["anthropic-beta"] = ",".join(upstream.betas)
    async with aiohttp.ClientSession(trust_env=True) as client:
        if _lists_models(upstream):
            request = client.get(f"{upstream.base_url}/v1/models?limit=1", headers=headers, allow_redirects=False)
        else:
            url = f"{upstream.base_url}/v1/messages"
            request = client.post(url, json={}, headers=headers, allow_redirects=False)
        async with request as answer:
            said = (await answer.content.read(SHOWN)).decode(errors="replace")
            return answer.status, answer.headers.get("location", "") or said


def _lists_models(upstream: Upstream) -> bool:
    """Anthropic does to whoever has an API key. A token of `claude setup-token` may be good for messages alone."""
    return upstream.name.startswith("Anthropic") and "x-api-key" in upstream.headers


# ---------------------------------------------------------------- what an answer means


def _judge(upstream: Upstream, status: int, said: str) -> Trouble | None:
    """None where it speaks the Messages API and takes the key: a request that says nothing is wrong, no more (400, 422)."""
    if status in (401, 403) or "authentication_error" in said:
        return Trouble(f"it does not take the key (status {status}): {said}", _other_key(upstream))
    if 300 <= status < 400:
        return Trouble(
            f"it leads elsewhere ({said}), where no key is sent", "set CC_MODEL_URL to the address it leads to"
        )
    if status in (404, 405, 501):
        mend = "set CC_MODEL_URL to its base"
        mend += ", without /v1" if upstream.base_url.endswith("/v1") else " (that to which /v1/messages is added)"
        return Trouble(f"it has no {urlsplit(upstream.base_url).path}/v1/messages (status {status})", mend)
    if status == 429:
        return Trouble("it takes no more requests now (status 429)", "wait, or raise its limits", fatal=False)
    if status >= 500:
        return Trouble(
            f"it has a fault of its own (status {status}): {said}", "see its log, and try again", fatal=False
        )
    return None


def _other_key(upstream: Upstream) -> str:
    if upstream.name == "Anthropic (OAuth)":
        return "make a new token and set it: CLAUDE_CODE_OAUTH_TOKEN=$(claude setup-token)"
    if upstream.name == "Anthropic (API key)":
        return "set ANTHROPIC_API_KEY to one that is good: https://console.anthropic.com/settings/keys"
    return "set CC_MODEL_KEY to one that this server takes" if upstream.headers else "set CC_MODEL_KEY: it wants one"


def _unreachable(upstream: Upstream, name: str, error: Exception) -> Finding:
    host = urlsplit(upstream.base_url).hostname or ""
    address = urlsplit(upstream.base_url).netloc.rpartition("@")[2]
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        mend = "set SSL_CERT_FILE to the certificates that this network needs, or check https:// in CC_MODEL_URL"
        return failure(name, f"the encrypted connection to {address} fails: {error}", mend)
    if isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError):
        return failure(name, f"the proxy that the environment names fails: {error}", "check HTTPS_PROXY and NO_PROXY")
    if isinstance(error, aiohttp.ClientConnectorDNSError | socket.gaierror):
        return failure(name, f"there is no host {host}, by what the name service says", _check_name(upstream, host))
    if isinstance(error, ValueError):
        return failure(
            name, f"no request can be made: {error}", "see that neither key nor CC_MODEL_URL has a line break in it"
        )
    number = error.errno if isinstance(error, OSError) else None
    problem = (
        f"nobody listens at {address}" if number == errno.ECONNREFUSED else f"{address} cannot be reached: {error}"
    )
    if in_container() and (host == "localhost" or host.startswith("127.")):
        return failure(
            name, f"{problem}: in a container, {host} is the container itself", "use http://host.docker.internal:PORT"
        )
    return failure(
        name, problem, f"start the server, or set CC_MODEL_URL to where it is: curl -i {shown(upstream.base_url)}"
    )


def _check_name(upstream: Upstream, host: str) -> str:
    if upstream.name == "model server":
        return f"set CC_MODEL_URL to the right name: getent hosts {host}"
    return f"see that this machine has a name service and a way out: getent hosts {host}"
