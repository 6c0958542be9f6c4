"""What a script may say about the conversation that it is played in: `{{…}}` in texts and tool inputs.

Pure. Unknown names stay as they are, so that a text about templates survives. Values are put in once and never
looked at again: a tool result cannot smuggle in a template.
"""

import re
from typing import Any

import orjson

from .conversation import Conversation
from .source import ScenarioError, outside_scripts

_FIELD = re.compile(r"\{\{\s*([a-z_]+)((?:\.\w+)*)(?:\s*|:([^{}]*))\}\}")
_MAX_DEPTH = 100


class Filler:
    """Fills the texts of one reply. What they become in all is bounded: a short script could ask for gigabytes."""

    def __init__(self, talk: Conversation, limit: int) -> None:
        self._talk = talk
        self._left = limit

    def fill(self, text: str, repeat: int = 1) -> str:
        filled = _FIELD.sub(self._value, text) if "{{" in text else text
        whole = (filled * min(repeat, self._left // max(1, len(filled)) + 1))[: self._left]
        self._left -= len(whole)
        return whole

    def fill_json(self, value: Any, depth: int = 0) -> Any:
        """Fill every string of a tool input; ```scenario blocks in it are meant for another conversation."""
        if depth > _MAX_DEPTH:
            raise ScenarioError(f"scenario: a tool input is nested deeper than {_MAX_DEPTH}")
        if isinstance(value, str):
            return outside_scripts(value, self.fill) if "{{" in value else value
        if isinstance(value, list):
            return [self.fill_json(item, depth + 1) for item in value]
        if isinstance(value, dict):
            return {key: self.fill_json(item, depth + 1) for key, item in value.items()}
        return value

    def _value(self, found: re.Match[str]) -> str:
        value = _value(found, self._talk)[: self._left]
        self._left -= len(value)
        return value


def _value(found: re.Match[str], talk: Conversation) -> str:
    name, path, argument = found[1], found[2], found[3]
    match name:
        case "last_tool_result":
            return _inside(talk.last_tool_result, path) if path else talk.last_tool_result
        case "prompt":
            return talk.prompt.words
        case "turn":
            return str(len(talk.prompts))
        case "all_prompts":
            return talk.all_prompts
        case "images":
            return _images(talk.prompt.images)
        case "tools":
            return ", ".join(talk.tools)
        case "system_contains":
            return "yes" if (argument or "") in talk.system else "no"
    return found[0]


def _images(sizes: tuple[int, ...]) -> str:
    return f"{len(sizes)} ({', '.join(f'{size} bytes' for size in sizes)})" if sizes else "0"


def _inside(result: str, path: str) -> str:
    """A field of a tool result that is JSON: {{last_tool_result.session_id}}, {{last_tool_result.items.0}}."""
    try:
        value = orjson.loads(result)
        for key in path[1:].split("."):
            value = value[int(key)] if isinstance(value, list) else value[key]
    except (ValueError, KeyError, IndexError, TypeError):
        return f"(no {path[1:]} in the tool result)"
    return value if isinstance(value, str) else orjson.dumps(value).decode()
