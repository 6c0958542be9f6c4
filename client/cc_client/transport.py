"""HTTP requests to the gateway: token, idempotency keys, retries, errors. It knows no endpoint.

A request is tried again after a connection error or a 503, at most `retries` times. That is safe: reads change nothing,
PATCH and DELETE say the same twice, and every POST carries an `Idempotency-Key` that stays the same over its tries.
"""

import asyncio
import uuid
from typing import Any, Final

import httpx

from cc_client.errors import ApiError, Unreachable, api_error
from cc_client.locate import is_loopback

API: Final = "/api/v1"
_FIRST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 10.0
_ERRORS: Final = (httpx.TransportError, httpx.InvalidURL)


class Transport:
    """A connection pool to one gateway. `timeout`: longest silence of an answer, in seconds."""

    def __init__(self, url: str, token: str, *, timeout: float, retries: int) -> None:
        self.url = url.rstrip("/")
        self.headers = {"Authorization": f"Bearer {token}"}
        self._retries = retries
        self._timeout = timeout
        self._http = httpx.AsyncClient(headers=self.headers, trust_env=not is_loopback(self.url))

    async def close(self) -> None:
        await self._http.aclose()

    async def json(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        body: dict[str, Any] | None = None,
        key: str | None = None,
        wait: float | None = None,
    ) -> Any:
        """The JSON of an answer (None for 204).

        `key`: an Idempotency-Key of the caller's own; `wait`: how much longer than usual the answer may take, in
        seconds. Raises `ApiError` for a refusal, `Unreachable` where no try got an answer.
        """
        headers = {"Idempotency-Key": key or str(uuid.uuid4())} if method == "POST" else {}
        request = self._http.build_request(
            method,
            self.url + path,
            params={name: value for name, value in (query or {}).items() if value is not None},
            json=body if body is not None else ({} if method == "POST" else None),
            headers=headers,
            timeout=httpx.Timeout(self._timeout + (wait or 0.0), connect=10.0),
        )
        answer, tries = await self._answer(request)
        if answer.status_code == 404 and method == "DELETE" and tries > 1:
            return None  # an earlier try, whose answer was lost, has done it
        return _parsed(_good(answer))

    async def text(self, path: str, *, query: dict[str, Any] | None = None) -> str:
        """The text of an answer that is not JSON. Raises as `json` does."""
        timeout = httpx.Timeout(self._timeout, connect=10.0)
        request = self._http.build_request("GET", self.url + path, params=query, timeout=timeout)
        return _good((await self._answer(request))[0]).text

    async def _answer(self, request: httpx.Request) -> tuple[httpx.Response, int]:
        wait = _FIRST_WAIT
        for tries in range(1, self._retries + 2):
            last = tries > self._retries
            try:
                answer = await self._http.send(request)
            except _ERRORS as error:
                if last:
                    raise self._unreachable(error) from error
            else:
                if answer.status_code != 503 or last:
                    return answer, tries
                wait = _asked_wait(answer) or wait
            await asyncio.sleep(min(wait, _LONGEST_WAIT))
            wait *= 3
        raise AssertionError("unreachable")

    def _unreachable(self, error: Exception) -> Unreachable:
        why = str(error) or type(error).__name__
        return Unreachable(f"the gateway at {self.url} does not answer: {why}", hint="is it running, and reachable?")


def _asked_wait(answer: httpx.Response) -> float | None:
    return api_error(answer.status_code, answer.content, answer.headers.get("Retry-After")).retry_after


def _good(answer: httpx.Response) -> httpx.Response:
    if answer.is_error:
        raise api_error(answer.status_code, answer.content, answer.headers.get("Retry-After"))
    return answer


def _parsed(answer: httpx.Response) -> Any:
    if answer.status_code == 204:
        return None
    try:
        return answer.json()
    except ValueError as error:
        message = "the answer is not JSON"
        raise ApiError("unexpected_answer", message, answer.status_code) from error
