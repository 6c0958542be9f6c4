"""The errors of the client: one root, fields instead of strings.

CCClientError
├── ApiError             the gateway answered, and said no
├── Unreachable          the gateway does not answer at its address
├── NoGateway            no gateway is known or running
├── GatewayStartError    the gateway that was started here did not come up
└── UsageProblem         what was asked for makes no sense as it stands
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class CCClientError(Exception):
    """Root of all errors that this package raises on purpose. `hint` says what to do, where that is known."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ApiError(CCClientError):
    """The gateway refused a request.

    `code` is the stable word to branch on, `status` the HTTP status (0 where a stream said it), `details` what the
    gateway adds, `request_id` the request's name in its log, `retry_after` the seconds to wait before another try.
    """

    def __init__(
        self,
        code: str,
        message: str,
        status: int,
        *,
        details: dict[str, Any] | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.details = details or {}
        self.request_id = request_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


class Unreachable(CCClientError):
    """No connection to the gateway, after every retry."""


class NoGateway(CCClientError):
    """No gateway is running for the data folder, and the environment names none."""


class GatewayStartError(CCClientError):
    """The gateway ended, or did not get ready. `status` is its exit status, `output` its last lines."""

    def __init__(self, message: str, *, status: int, output: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.output = output


class UsageProblem(CCClientError):
    """The arguments are understood, but cannot be followed."""


class _Error(BaseModel):
    model_config = ConfigDict(extra="ignore")

    code: str = "unknown_error"
    message: str = ""
    details: dict[str, Any] = Field(default_factory=dict)


class _ErrorAnswer(BaseModel):
    model_config = ConfigDict(extra="ignore")

    error: _Error
    request_id: str | None = None


def api_error(status: int, body: bytes, retry_after: str | None = None) -> ApiError:
    """The error in an answer with this status; also where the body is not the gateway's (a proxy's page)."""
    wait = _seconds(retry_after)
    try:
        answer = _ErrorAnswer.model_validate_json(body)
    except ValueError:
        said = body[:200].decode("utf-8", "replace").strip().splitlines()
        message = f"HTTP {status}" + (f": {said[0]}" if said else "")
        return ApiError("unexpected_answer", message, status, retry_after=wait)
    error = answer.error
    return ApiError(
        error.code, error.message, status, details=error.details, request_id=answer.request_id, retry_after=wait
    )


def stream_error(error: object) -> ApiError:
    """The error in a `stream.error` frame."""
    try:
        found = _Error.model_validate(error)
    except ValueError:
        found = _Error(message=str(error))
    return ApiError(found.code, found.message, 0, details=found.details)


def _seconds(text: str | None) -> float | None:
    try:
        return max(0.0, float(text)) if text is not None else None
    except ValueError:
        return None
