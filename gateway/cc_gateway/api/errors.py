"""Every error as `{error: {code, message, details}, request_id}`; the one place that gives an error its HTTP status."""

from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from cc_gateway import errors
from cc_gateway.api.answers import ErrorOut

log = structlog.get_logger(__name__)

STATUS: Final[dict[type[errors.CCError], int]] = {
    errors.InvalidRequest: 422,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.PayloadTooLarge: 413,
    errors.TooManyRequests: 429,
    errors.Unavailable: 503,
}

_HTTP_CODES: Final = {400: "invalid_json", 404: "not_found", 405: "method_not_allowed", 413: "payload_too_large"}


def status_of(error: errors.CCError) -> int:
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def as_dict(error: errors.CCError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "details": error.details}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for OpenAPI."""
    return {status: {"model": ErrorOut} for status in (*statuses, 401, 422, 503)}


def install(app: FastAPI) -> None:
    @app.exception_handler(errors.CCError)
    async def on_own(request: Request, error: errors.CCError) -> JSONResponse:
        status = status_of(error)
        if status >= 500:
            log.warning("request_failed", code=error.code, error=error.message, path=request.url.path)
        headers = {}
        if isinstance(error, errors.TooManyRequests | errors.Unavailable):
            headers["retry-after"] = str(error.retry_after)
        if status == 401:
            headers["www-authenticate"] = "Bearer"
        return _answer(request, status, as_dict(error), headers)

    @app.exception_handler(RequestValidationError)
    async def on_validation(request: Request, error: RequestValidationError) -> JSONResponse:
        problems = [_problem(item) for item in error.errors()]
        code = "not_supported_yet" if any(p["type"] == "not_supported_yet" for p in problems) else "invalid_request"
        if any(p["type"] == "json_invalid" for p in problems):
            code = "invalid_json"
        message = "; ".join(f"{p['field']}: {p['message']}" if p["field"] else p["message"] for p in problems[:5])
        body = {"code": code, "message": message, "details": {"problems": problems[:20]}}
        return _answer(request, 400 if code == "invalid_json" else 422, body, {})

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> JSONResponse:
        code = _HTTP_CODES.get(error.status_code, "http_error")
        message = (
            f"no such address: {request.method} {request.url.path}" if error.status_code == 404 else str(error.detail)
        )
        body = {"code": code, "message": message, "details": {}}
        return _answer(request, error.status_code, body, dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def on_bug(request: Request, error: Exception) -> JSONResponse:
        log.error("request_crashed", path=request.url.path, exc_info=error)
        body = {"code": "internal_error", "message": "this is a fault of the gateway; its log says more", "details": {}}
        return _answer(request, 500, body, {})


def _problem(item: dict[str, Any]) -> dict[str, str]:
    """A validation problem without the input: it may be huge, or a secret."""
    place = ".".join(str(part) for part in item["loc"][1:])
    return {"field": place, "message": str(item["msg"]).removeprefix("Value error, "), "type": str(item["type"])}


def _answer(request: Request, status: int, body: dict[str, Any], headers: dict[str, str]) -> JSONResponse:
    request_id = request.scope.get("cc.request_id", "unknown")
    return JSONResponse({"error": body, "request_id": request_id}, status, headers)
