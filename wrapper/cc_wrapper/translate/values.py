"""Looking into JSON of unknown shape without ever raising (pure)."""

from typing import Final

from pydantic import JsonValue

from cc_protocol.events import ModelUsage

JsonObject = dict[str, JsonValue]

_WORD: Final = 256
_MESSAGE: Final = 4000
_COUNT: Final = 2**53
_DOLLARS: Final = 1e9


def obj(value: JsonValue) -> JsonObject:
    return value if isinstance(value, dict) else {}


def arr(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []


def text(value: JsonValue) -> str | None:
    return value if isinstance(value, str) else None


def word(value: JsonValue) -> str | None:
    """A short text: what the protocol bounds is cut, not refused."""
    return value[:_WORD] if isinstance(value, str) else None


def message(value: str) -> str:
    return value[:_MESSAGE]


def count(value: JsonValue) -> int | None:
    """A whole number that any database holds, from 0."""
    found = number(value)
    return None if found is None else int(found)


def number(value: JsonValue) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return value if 0 <= value <= _COUNT else None


def dollars(value: JsonValue) -> float | None:
    found = number(value)
    return None if found is None or found > _DOLLARS else float(found)


def usage(value: JsonValue) -> ModelUsage:
    """The four counts of a usage object; what is absent or nonsense counts as 0."""
    fields = obj(value)
    return ModelUsage(**{name: count(fields.get(name)) or 0 for name in ModelUsage.model_fields})


def merged(first: ModelUsage, then: JsonValue) -> ModelUsage:
    """Usage at a message's start, overridden by what its end says."""
    fields = obj(then)
    known = {name: found for name in ModelUsage.model_fields if (found := count(fields.get(name))) is not None}
    return first.model_copy(update=known)
