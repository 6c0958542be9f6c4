"""Bytes into JSON, whatever they hold (pure)."""

import json

import orjson
from pydantic import JsonValue

_DEEPEST = 100


def parse(line: bytes) -> dict[str, JsonValue] | None:
    """The object on this line, or None where there is none that could be passed on.

    The CLI cuts texts between the halves of a surrogate pair and so writes lone ones, which orjson refuses with good
    reason: no database takes them. They become question marks.
    """
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        value = _parse_leniently(line)
    return value if isinstance(value, dict) and not _deeper(value, _DEEPEST) else None


def text_of(line: bytes) -> str:
    """The line as text that any JSON can hold."""
    return line.decode("utf-8", "replace")


def _parse_leniently(line: bytes) -> JsonValue:
    try:
        value = json.loads(line)
        clean = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
        return orjson.loads(clean)  # type: ignore[no-any-return]
    except (ValueError, RecursionError):
        return None


def _deeper(value: JsonValue, levels: int) -> bool:
    if isinstance(value, dict):
        return levels == 0 or any(_deeper(inner, levels - 1) for inner in value.values())
    if isinstance(value, list):
        return levels == 0 or any(_deeper(inner, levels - 1) for inner in value)
    return False
