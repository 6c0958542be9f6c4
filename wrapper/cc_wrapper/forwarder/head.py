"""The head of an HTTP/1.1 request: parsed, checked and rewritten (pure)."""

import hmac
import re
from dataclasses import dataclass
from typing import Final

_REQUEST_LINE: Final = re.compile(rb"[A-Z]+ [\x21-\x7e]+ HTTP/1\.[01]")
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LINE_BREAKS: Final = re.compile(rb"[\r\n\0]")
_CREDENTIALS: Final = frozenset({b"authorization", b"x-api-key", b"proxy-authorization"})


class BadRequestError(Exception):
    """The head is no request that could be passed on."""


@dataclass(frozen=True, slots=True)
class Head:
    request_line: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    content_length: int
    chunked: bool

    def carries(self, nonce: str) -> bool:
        """Whether the request shows our word, as bearer or as API key."""
        shown = [value.removeprefix(b"Bearer ") for name, value in self.fields if name.lower() in _CREDENTIALS]
        return any(hmac.compare_digest(value, nonce.encode()) for value in shown)

    def with_token(self, token: str) -> bytes:
        """The head for the gateway: no credentials but the token."""
        kept = [name + b": " + value for name, value in self.fields if name.lower() not in _CREDENTIALS]
        return b"\r\n".join([self.request_line, *kept, b"Authorization: Bearer " + token.encode(), b"", b""])


def parse_head(raw: bytes) -> Head:
    """Parse what stands before the body, its empty line included."""
    request_line, *lines = raw.removesuffix(b"\r\n\r\n").split(b"\r\n")
    if not _REQUEST_LINE.fullmatch(request_line):
        raise BadRequestError("not an HTTP/1 request line")
    fields = tuple(_field(line) for line in lines)
    codings = [value.lower() for name, value in fields if name.lower() == b"transfer-encoding"]
    lengths = {value for name, value in fields if name.lower() == b"content-length"}
    if codings not in ([], [b"chunked"]) or len(lengths) > 1 or (codings and lengths):
        raise BadRequestError("the length of the body is not clear")
    return Head(request_line, fields, _length(lengths.pop()) if lengths else 0, bool(codings))


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not _NAME.fullmatch(name) or _LINE_BREAKS.search(value):
        raise BadRequestError("not a header field")
    return name, value.strip()


def _length(value: bytes) -> int:
    if not value.isdigit() or len(value) > 15:
        raise BadRequestError("not a length")
    return int(value)


def chunk_size(line: bytes) -> int:
    """The size that a chunk's first line gives."""
    digits = line.split(b";")[0].strip()
    if not digits or len(digits) > 12 or digits.strip(b"0123456789abcdefABCDEF"):
        raise BadRequestError("not a chunk size")
    return int(digits, 16)
