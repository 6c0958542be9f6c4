"""`result` and `api_retry` lines: usage, cost and errors of a run (pure).

`subtype: "success"` is no success where `is_error` is set, and a refused or failed request ends in one as well.
"""

from typing import Final, Literal

from cc_protocol.events import ContextFill, ErrorDetail, ModelUsage, RetryStatus, SessionError, SessionUsage
from cc_wrapper.translate.meaning import RunError, RunResult
from cc_wrapper.translate.stream import LastRequest
from cc_wrapper.translate.values import JsonObject, arr, count, message, number, obj, text, usage, word

_BY_STATUS: Final = {
    401: "authentication_error",
    429: "model_rate_limited_error",
    529: "model_overloaded_error",
}
_BY_WORD: Final = {
    "authentication_failed": "authentication_error",
    "authentication_error": "authentication_error",
    "rate_limit": "model_rate_limited_error",
    "rate_limit_error": "model_rate_limited_error",
    "overloaded": "model_overloaded_error",
    "overloaded_error": "model_overloaded_error",
}
_OWN_DETAIL: Final = {"error_max_turns": "max_turns", "error_max_budget_usd": "max_budget_usd"}
_REQUEST_FAILED: Final = "model_request_failed_error"


def retry_error(line: JsonObject) -> SessionError:
    """An `api_retry` line: a model request failed and is tried again."""
    status, name = count(line.get("error_status")), word(line.get("error"))
    return _session_error(
        RunError(_error_type(status, name), name or "The model request failed.", status),
        "retrying",
        attempt=count(line.get("attempt")),
        max_retries=count(line.get("max_retries")),
        retry_delay_ms=number(line.get("retry_delay_ms")),
    )


def exhausted_error(error: RunError) -> SessionError:
    """The run ended because its model requests failed for good."""
    return _session_error(error, "exhausted")


def _session_error(
    error: RunError,
    status: Literal["retrying", "exhausted"],
    *,
    attempt: int | None = None,
    max_retries: int | None = None,
    retry_delay_ms: float | None = None,
) -> SessionError:
    return SessionError(
        error=ErrorDetail(
            type=error.type,
            message=error.message,
            retry_status=RetryStatus(type=status),
            http_status=error.http_status,
            attempt=attempt,
            max_retries=max_retries,
            retry_delay_ms=retry_delay_ms,
        )
    )


def is_api_failure(line: JsonObject) -> bool:
    """Whether this failed `result` says that the model could not be reached or refused."""
    return line.get("is_error") is True and line.get("subtype") == "success" and line.get("stop_reason") != "refusal"


def run_result(line: JsonObject, cost: float | None, last_word: str | None) -> RunResult:
    """What a `result` line says. `last_word` is the error that the synthetic message before it named."""
    reason = text(line.get("terminal_reason")) or ""
    return RunResult(
        is_error=line.get("is_error") is True,
        aborted=reason.startswith("aborted"),
        result=text(line.get("result")),
        stop_reason=word(line.get("stop_reason")),
        detail=_detail(line),
        usage=usage(line.get("usage")),
        cost_usd=cost,
        duration_ms=count(line.get("duration_ms")),
        num_turns=count(line.get("num_turns")),
        error=_run_error(line, last_word),
        prompts=frozenset(uuid for item in arr(line.get("user_message_uuids")) if (uuid := text(item))),
    )


def _detail(line: JsonObject) -> str | None:
    if line.get("stop_reason") == "refusal":
        return "refusal"
    return _OWN_DETAIL.get(text(line.get("subtype")) or "")


def _run_error(line: JsonObject, last_word: str | None) -> RunError | None:
    if line.get("is_error") is not True:
        return None
    reasons = "; ".join(filter(None, map(text, arr(line.get("errors")))))
    why = message(text(line.get("result")) or reasons or "The run failed.")
    if is_api_failure(line):
        status = count(line.get("api_error_status"))
        return RunError(_error_type(status, text(line.get("api_error_type")) or last_word), why, status)
    return RunError(_detail(line) or word(line.get("subtype")) or "error_during_execution", why)


def _error_type(status: int | None, name: str | None) -> str:
    return _BY_STATUS.get(status or 0) or _BY_WORD.get(name or "") or _REQUEST_FAILED


def session_usage(line: JsonObject, cost: float | None, last: LastRequest | None) -> SessionUsage:
    return SessionUsage(usage=usage(line.get("usage")), cost_usd=cost, context=_context(line, last))


def _context(line: JsonObject, last: LastRequest | None) -> ContextFill | None:
    if last is None:
        return None
    return ContextFill(
        used_tokens=min(_all_tokens(last.usage), 2**53), max_tokens=_window(obj(line.get("modelUsage")), last.model)
    )


def _all_tokens(used: ModelUsage) -> int:
    return used.input_tokens + used.output_tokens + used.cache_creation_input_tokens + used.cache_read_input_tokens


def _window(models: JsonObject, model: str | None) -> int | None:
    """The context window of the model that was asked last, as `modelUsage` gives it."""
    ours = [name for name in models if model is not None and name.startswith(model)] or list(models)
    windows = [size for name in ours if (size := count(obj(models[name]).get("contextWindow")))]
    return max(windows, default=None)
