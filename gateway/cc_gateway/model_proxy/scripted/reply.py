"""A step of a script turned into the message that the API would send.

Pure. The shape is that of Anthropic's Messages API (https://docs.anthropic.com/en/api/messages); token counts
are an estimate of four characters each, the same for the same request always.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from .conversation import Conversation, Json
from .scenario import MAX_DELTAS, MAX_TEXT_CHARS, Block, Step
from .template import Filler

CHARS_PER_TOKEN = 4
# Small texts are seen to stream; large ones do not become a hundred thousand deltas.
_DELTA_CHARS = 24
_USUAL_DELTAS = 256


@dataclass(frozen=True)
class Content:
    """One content block: how it opens, and the pieces that its deltas carry."""

    kind: str
    pieces: Sequence[str]
    id: str = ""
    name: str = ""

    def whole(self) -> Json:
        text = "".join(self.pieces)
        if self.kind == "tool_use":
            return {"type": "tool_use", "id": self.id, "name": self.name, "input": orjson.loads(text)}
        if self.kind == "thinking":
            return {"type": "thinking", "thinking": text, "signature": signature(text)}
        return {"type": "text", "text": text}


@dataclass(frozen=True)
class Reply:
    """A whole message, ready to be sent at once or in pieces."""

    id: str
    model: str
    contents: Sequence[Content]
    stop_reason: str
    usage: Json

    def message(self) -> Json:
        return self.opening() | {
            "content": [content.whole() for content in self.contents],
            "stop_reason": self.stop_reason,
            "usage": self.usage,
        }

    def opening(self) -> Json:
        """The message as a stream begins it: nothing said yet."""
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": self.usage | {"output_tokens": 1},
        }


def build_reply(step: Step, talk: Conversation, *, model: str, digest: str, request_chars: int) -> Reply:
    """`digest` is what ids are made of: other for every request, the same for the same one."""
    filler = Filler(talk, MAX_TEXT_CHARS)
    contents = [
        _content(block, filler, step.chunk_chars, f"toolu_{digest}{index:02d}")
        for index, block in enumerate(step.content)
    ]
    calls_a_tool = any(content.kind == "tool_use" for content in contents)
    said = sum(len(piece) for content in contents for piece in content.pieces)
    return Reply(
        id=f"msg_{digest}",
        model=model,
        contents=contents,
        stop_reason=step.stop_reason or ("tool_use" if calls_a_tool else "end_turn"),
        usage=_usage(step, tokens(request_chars), tokens(said)),
    )


def tokens(chars: int) -> int:
    return max(1, chars // CHARS_PER_TOKEN)


def signature(thought: str) -> str:
    """Opaque to clients; the CLI sends it back with the thought."""
    return f"scripted-{len(thought)}"


def _content(block: Block, filler: Filler, size: int | None, tool_id: str) -> Content:
    if block.tool is not None:
        source = orjson.dumps(filler.fill_json(block.input or {})).decode()
        return Content("tool_use", _pieces(source, size), tool_id, block.tool)
    if block.thinking is not None:
        return Content("thinking", _pieces(filler.fill(block.thinking), size))
    if isinstance(block.text, list):
        return Content("text", [filler.fill(chunk) for chunk in block.text * block.repeat_text])
    return Content("text", _pieces(filler.fill(block.text or "", block.repeat_text), size))


def _pieces(text: str, size: int | None) -> list[str]:
    least = -(-len(text) // (MAX_DELTAS if size else _USUAL_DELTAS))
    size = max(size or _DELTA_CHARS, least)
    return [text[at : at + size] for at in range(0, len(text), size)]


def _usage(step: Step, read: int, said: int) -> Json:
    counts: dict[str, Any] = {
        "input_tokens": read,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": said,
    }
    return counts | step.usage.model_dump(exclude_none=True)
