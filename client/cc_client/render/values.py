"""Small things as text (pure): durations, tokens, costs, content blocks, and what a tool call is about."""

import json
from collections.abc import Mapping
from typing import Any, Final

from cc_client.render.clean import clean, one_line

_TELLING: Final = {
    "Bash": ("command",),
    "BashOutput": ("bash_id",),
    "Edit": ("file_path",),
    "Glob": ("pattern", "path"),
    "Grep": ("pattern", "path"),
    "MultiEdit": ("file_path",),
    "NotebookEdit": ("notebook_path",),
    "Read": ("file_path",),
    "Skill": ("skill", "command"),
    "Task": ("description",),
    "Agent": ("description",),
    "WebFetch": ("url",),
    "WebSearch": ("query",),
    "Write": ("file_path",),
}
"""The fields of a tool's input that say what it is about."""


def seconds(milliseconds: float | None) -> str:
    if milliseconds is None:
        return ""
    value = milliseconds / 1000
    if value < 60:
        return f"{value:.1f} s"
    return f"{int(value // 60)} min {int(value % 60)} s"


def cost(usd: float | None) -> str:
    if usd is None:
        return ""
    return f"${usd:.4f}" if usd < 1 else f"${usd:.2f}"


def count(number: int | None) -> str:
    """A number of tokens, short: 950, 1.2k, 34k, 1.3M."""
    value = number or 0
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if value >= size:
            short = value / size
            return f"{short:.1f}{unit}" if short < 10 else f"{short:.0f}{unit}"
    return str(value)


def tokens(usage: Mapping[str, Any] | None) -> str:
    """What went into the model and came out: `1.2k tokens in (10k cached), 345 out`."""
    if not usage:
        return ""
    fresh = _number(usage.get("input_tokens")) + _number(usage.get("cache_creation_input_tokens"))
    cached = _number(usage.get("cache_read_input_tokens"))
    if not fresh + cached + _number(usage.get("output_tokens")):
        return ""
    came = f"{count(fresh)} tokens in" + (f" ({count(cached)} cached)" if cached else "")
    return f"{came}, {count(_number(usage.get('output_tokens')))} out"


def plural(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")


def text_of(content: Any) -> str:
    """The words of a list of content blocks; a block that holds none is named in brackets."""
    blocks = content if isinstance(content, list) else [content]
    return clean("\n".join(_block(block) for block in blocks))


def _block(block: Any) -> str:
    if isinstance(block, str):
        return block
    if not isinstance(block, dict):
        return json.dumps(block, ensure_ascii=False)
    if isinstance(block.get("text"), str):
        return str(block["text"])
    source = block.get("source")
    media = source.get("media_type") if isinstance(source, dict) else None
    return f"[{block.get('type', 'block')}{f' {media}' if media else ''}]"


def about(name: str, given: Any) -> str:
    """One line on what a tool call does: its command, path, pattern, …; else its input in brief."""
    if not isinstance(given, dict):
        return one_line(json.dumps(given, ensure_ascii=False))
    if name == "TodoWrite" and isinstance(given.get("todos"), list):
        return _todos(given["todos"])
    told = [str(given[field]) for field in _TELLING.get(name, ()) if given.get(field)]
    if told:
        return one_line(_first_line(told[0]) + "".join(f" in {more}" for more in told[1:]))
    return one_line(", ".join(f"{key}: {_brief(value)}" for key, value in given.items()))


def _first_line(text: str) -> str:
    lines = text.strip().splitlines() or [""]
    return lines[0] + (f" … (+{plural(len(lines) - 1, 'line')})" if len(lines) > 1 else "")


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return one_line(text, 80)


def _todos(todos: list[Any]) -> str:
    done = sum(1 for todo in todos if isinstance(todo, dict) and todo.get("status") == "completed")
    now = [str(todo.get("content")) for todo in todos if isinstance(todo, dict) and todo.get("status") == "in_progress"]
    return one_line(f"{done} of {len(todos)} done" + (f"; now: {now[0]}" if now else ""))


def _number(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) else 0
