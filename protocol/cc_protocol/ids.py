"""Identifiers: a prefix that says what it names, then 26 characters that sort by time (the ULID layout)."""

import re
import secrets
import time
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, in lower case: fit for paths and names

SESSION: Final = "sesn"
TURN: Final = "turn"
EVENT: Final = "sevt"

ID_PATTERN: Final = r"^(sesn|turn|sevt)_[0-9a-hjkmnp-tv-z]{26}$"
_ID = re.compile(ID_PATTERN)


def new_id(prefix: str) -> str:
    """Mint an identifier such as `sesn_01k…`: 48 bits of Unix milliseconds, then 80 random bits."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return f"{prefix}_" + "".join(_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))


def is_id(text: str, prefix: str) -> bool:
    """Whether `text` is a well-formed identifier of this kind: the gateway checks before it builds a path of it."""
    return text.startswith(f"{prefix}_") and _ID.fullmatch(text) is not None
