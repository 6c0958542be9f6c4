"""The errors of the gateway: one root, fields instead of strings. `api/errors.py` alone gives each its HTTP status.

CCError
├── InvalidRequest          the request cannot be understood or allowed as it stands
│   └── NotBuiltYet         a field whose feature this version does not have
├── Unauthenticated         no valid token
├── Forbidden               a valid token that may not do this
├── NotFound                no such thing, or not yours
├── Conflict                the state of things forbids it now
├── PayloadTooLarge
├── TooManyRequests         try again after `retry_after` seconds
├── Unavailable             a part that is needed is away; try again after `retry_after` seconds
├── Fenced                  another owner has taken over: stop writing (never reaches a client)
└── StartupError            the gateway cannot start; the message names the mend
"""

from typing import Any


class CCError(Exception):
    """Root of all errors that this gateway raises on purpose."""

    code = "internal_error"

    def __init__(self, message: str, *, code: str | None = None, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.details = details or {}


class InvalidRequest(CCError):
    code = "invalid_request"


class NotBuiltYet(InvalidRequest):
    code = "not_supported_yet"


class Unauthenticated(CCError):
    code = "unauthenticated"


class Forbidden(CCError):
    code = "forbidden"


class NotFound(CCError):
    code = "not_found"


class Conflict(CCError):
    code = "conflict"


class PayloadTooLarge(CCError):
    code = "payload_too_large"


class _TryAgain(CCError):
    def __init__(
        self, message: str, *, retry_after: int, code: str | None = None, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message, code=code, details=details)
        self.retry_after = retry_after


class TooManyRequests(_TryAgain):
    code = "too_many_requests"


class Unavailable(_TryAgain):
    code = "unavailable"


class Fenced(CCError):
    code = "fenced"


class StartupError(CCError):
    code = "startup_error"
