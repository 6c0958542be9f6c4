"""The text that is added to the system prompt (pure).

A repository's own CLAUDE.md files count as text and nothing more: with project settings off, `claude` does not read them
itself. What the wrapper wrote into a CLAUDE.md stands between marks and is not fed back.
"""

import re
from typing import Final

from cc_protocol.launch import Launch

MEMORY_FILES: Final = ("CLAUDE.md", ".claude/CLAUDE.md", "CLAUDE.local.md")
MEMORY_LIMIT: Final = 200_000

_BEGIN: Final = "<!-- cc-docker: written for this session; what stands outside these marks is yours -->"
_END: Final = "<!-- cc-docker: end -->"
_MARKED: Final = re.compile(re.escape(_BEGIN) + ".*?" + re.escape(_END) + r"\n?", re.DOTALL)


def session_text(launch: Launch) -> str:
    """What the agent should know about where it is."""
    return (
        "# This session\n\n"
        f"You run in CC-Docker, as session {launch.session_id}, without a terminal: prompts come from an API, and "
        "nobody sees a dialog.\n"
        f"Your workspace is {launch.workspace}. It is kept between prompts and restarts; other folders may not be.\n"
        "Processes that you start in the background end when the session sleeps or restarts.\n"
    )


def workspace_memory(launch: Launch) -> str:
    """The CLAUDE.md that is put where there is none, for people and agents to see."""
    return f"{_BEGIN}\n{session_text(launch)}{_END}\n"


def own_text(memory: str) -> str:
    """What of a CLAUDE.md is not ours."""
    return _MARKED.sub("", memory).strip()


def appended_prompt(launch: Launch, memories: dict[str, str]) -> str:
    """All that is appended to the system prompt."""
    parts = [session_text(launch)]
    if launch.append_system_prompt:
        parts.append(launch.append_system_prompt)
    for path, memory in memories.items():
        if text := own_text(memory):
            parts.append(f"# {path} of the workspace\n\nThe repository gives these instructions:\n\n{text}")
    return "\n\n".join(part.strip() for part in parts) + "\n"
