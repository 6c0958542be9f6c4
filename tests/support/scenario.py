"""Prompts that tell the scripted model what to answer."""

import json
from typing import Any


def scripted(*steps: dict[str, Any], text: str = "go") -> str:
    """A prompt whose answers are these steps, in the scripted model's own format."""
    return f"{text}\n```scenario\n{json.dumps(list(steps))}\n```"


def bash(command: str, **options: Any) -> dict[str, Any]:
    return {"tool": "Bash", "input": {"command": command, "description": "test"}, **options}


def says(text: str, **options: Any) -> dict[str, Any]:
    return {"text": text, **options}
