"""Control requests: ours to `claude` with their answers, and its own to us, which all get one.

Above it: `life`. Below it: something that writes a line. `claude` waits for an answer to what it asks without a limit, so
nothing that it asks is left without one; with nobody here to ask, a permission is denied.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import orjson
from pydantic import JsonValue

from cc_wrapper.errors import ControlError
from cc_wrapper.translate.values import JsonObject, obj, text

_DENIED: Final[JsonObject] = {"behavior": "deny", "message": "Nobody can answer permission requests in this session."}


class Control:
    def __init__(self, write_line: Callable[[bytes], Awaitable[None]]) -> None:
        self._write_line = write_line
        self._waiting: dict[str, asyncio.Future[JsonObject]] = {}
        self._count = 0

    async def request(self, subtype: str, timeout: float, **fields: JsonValue) -> JsonObject:
        """Ask and wait for the answer; raises `ControlError` when it is refused, late or never to come."""
        self._count += 1
        request_id = f"cc-{self._count}"
        answer: asyncio.Future[JsonObject] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = answer
        line = {"type": "control_request", "request_id": request_id, "request": {"subtype": subtype, **fields}}
        try:
            async with asyncio.timeout(timeout):
                await self._write_line(orjson.dumps(line))
                return await answer
        except TimeoutError:
            raise ControlError("timeout", f"claude did not answer {subtype} within {timeout:g} s") from None
        except ConnectionError as error:
            raise ControlError("gone", f"claude does not take {subtype}: {error}") from None
        finally:
            self._waiting.pop(request_id, None)

    def answered(self, line: JsonObject) -> None:
        """Take a `control_response` line."""
        response = obj(line.get("response"))
        future = self._waiting.get(text(response.get("request_id")) or "")
        if future is None or future.done():
            return
        if response.get("subtype") == "success":
            future.set_result(obj(response.get("response")))
        else:
            future.set_exception(ControlError("refused", text(response.get("error")) or "claude refused"))

    def abandon(self) -> None:
        """`claude` is gone: nothing will be answered any more."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ControlError("gone", "claude has ended"))


def answer_to(line: JsonObject) -> bytes:
    """The answer to a `control_request` that `claude` sent."""
    request_id, request = line.get("request_id"), obj(line.get("request"))
    if request.get("subtype") == "can_use_tool":
        response: JsonObject = {"subtype": "success", "request_id": request_id, "response": _DENIED}
    else:
        error = f"not supported here: {request.get('subtype')}"
        response = {"subtype": "error", "request_id": request_id, "error": error}
    return orjson.dumps({"type": "control_response", "response": response})
