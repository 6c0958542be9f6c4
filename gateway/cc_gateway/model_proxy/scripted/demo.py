"""What the scripted model says when no scenario tells it: a friendly demonstration that needs no account.

Pure. It looks like a small agent at work (announce, call Bash, report), but understands nothing, and says so. It
also gives fitting answers to what the CLI asks on its own account: summaries and structured output.
"""

import re
from typing import Any

from .conversation import Conversation, Json
from .scenario import Block, Step

CHUNK_DELAY_MS = 12
_QUOTED_CHARS = 120
_ABOUT_FILES = re.compile(
    r"\b(files?|folders?|director(y|ies)|list|look|ls|workspace|repo(sitory)?|codebase)\b", re.IGNORECASE
)
_STRUCTURED = "StructuredOutput"
_WHO = (
    "I am CC-Docker's scripted model: I play a script and understand nothing. To reach a real model, set "
    "ANTHROPIC_API_KEY, CLAUDE_CODE_OAUTH_TOKEN or CC_MODEL_URL for the gateway and start it again."
)


def demo_step(talk: Conversation) -> Step:
    if talk.compaction:
        return _summary(talk)
    if talk.step == 0 and _STRUCTURED in talk.tools:
        schema = talk.tools[_STRUCTURED].get("input_schema")
        return Step(tool=_STRUCTURED, input=example_of(schema if isinstance(schema, dict) else {}))
    if talk.step == 0 and "Bash" in talk.tools and _ABOUT_FILES.search(talk.prompt.words):
        return _look_at_files()
    return _answer(talk)


def closing_step() -> Step:
    """What comes after the last step of a script."""
    return Step(text="done")


def example_of(schema: Json) -> Any:
    """The smallest value of a JSON schema, as far as a demonstration needs it."""
    if isinstance(choices := schema.get("enum"), list) and choices:
        return choices[0]
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        properties = schema.get("properties") or {}
        return {name: example_of(properties.get(name) or {}) for name in schema.get("required") or properties}
    if kind == "array":
        return []
    return {"integer": 0, "number": 0, "boolean": False, "null": None}.get(str(kind), "scripted")


def _look_at_files() -> Step:
    call = {"command": "ls -la", "description": "List the files in the workspace"}
    said = "I will list the files in the workspace with `ls -la`."
    return Step(blocks=[Block(text=said), Block(tool="Bash", input=call)], chunk_delay_ms=CHUNK_DELAY_MS)


def _answer(talk: Conversation) -> Step:
    asked = _quote(talk.prompt.words)
    said = ["Hello from CC-Docker!", f"You said: “{asked}”." if asked else "", _report(talk), _WHO]
    return _plain(" ".join(filter(None, said)))


def _report(talk: Conversation) -> str:
    """What the tool found, if this turn called one: only the demonstration's own `ls -la` is counted."""
    if talk.step == 0 or not talk.last_tool_result:
        return ""
    if not talk.last_tool_result.startswith("total "):
        return f"The tool answered: “{_quote(talk.last_tool_result)}”."
    lines = [line.split(maxsplit=8) for line in talk.last_tool_result.splitlines()]
    names = [fields[8] for fields in lines if len(fields) == 9 and fields[8] not in (".", "..")]
    found = f"There {'is 1 file' if len(names) == 1 else f'are {len(names)} files'} in the workspace"
    return f"{found}: {_quote(', '.join(names))}." if names else f"{found}."


def _summary(talk: Conversation) -> Step:
    said = "\n".join(f"- {_quote(prompt.words)}" for prompt in talk.prompts)
    return _plain(
        "<analysis>The scripted model lists what the user said.</analysis>\n"
        f"<summary>\nThe user said so far:\n{said}\n</summary>"
    )


def _plain(text: str) -> Step:
    return Step(text=text, chunk_delay_ms=CHUNK_DELAY_MS)


def _quote(text: str) -> str:
    # What people say is no template.
    line = " ".join(text.split()).replace("{{", "{ {")
    return line if len(line) <= _QUOTED_CHARS else line[: _QUOTED_CHARS - 1] + "…"
