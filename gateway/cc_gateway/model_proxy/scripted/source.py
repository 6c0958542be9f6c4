"""Where scenarios come from: a ```scenario block in a prompt, or a file given at start.

Pure but for `load_scenario_file`. Every way of being wrong becomes a ScenarioError whose message says what is
wrong and where, since its reader is a person who sees nothing but that message in the CLI.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from .scenario import Scenario, Script, Step

# The closing fence stands on a line of its own, so a script may hold prompts that hold scripts: in JSON their
# line ends are escaped. Two expressions, not one: prompts are untrusted, and one would search on from each opening.
_OPENING = re.compile(r"^[ \t]*```scenario[ \t]*\r?$\n?", re.MULTILINE)
_CLOSING = re.compile(r"^[ \t]*```[ \t]*\r?$\n?", re.MULTILINE)
_SHOWN_ERRORS = 3

_M = TypeVar("_M", bound=BaseModel)


class ScenarioError(ValueError):
    """A scenario that cannot be played; the message says what is wrong and where."""


class Fence(NamedTuple):
    """A ```scenario block: where it stands, and what is in it."""

    start: int
    end: int
    source: str


def find_script(prompt: str) -> str | None:
    """The source of the first ```scenario block of a prompt, None where it has none."""
    if fence := next(_fences(prompt), None):
        return fence.source
    if _OPENING.search(prompt):
        raise ScenarioError("scenario: the ```scenario block has no closing ``` on a line of its own")
    return None


def without_scripts(prompt: str) -> str:
    return _outside(prompt, lambda text: text, lambda fence: "").strip()


def outside_scripts(text: str, change: Callable[[str], str]) -> str:
    """`text` with `change` applied to what stands outside its ```scenario blocks: those speak for themselves."""
    return _outside(text, change, lambda fence: fence)


def _outside(text: str, change: Callable[[str], str], keep: Callable[[str], str]) -> str:
    done: list[str] = []
    at = 0
    for fence in _fences(text):
        done += [change(text[at : fence.start]), keep(text[fence.start : fence.end])]
        at = fence.end
    return "".join([*done, change(text[at:])])


def _fences(text: str) -> Iterator[Fence]:
    at = 0
    while (opening := _OPENING.search(text, at)) and (closing := _CLOSING.search(text, opening.end())):
        yield Fence(opening.start(), closing.end(), text[opening.end() : closing.start()].strip())
        at = closing.end()


def parse_script(source: str | bytes) -> list[Step]:
    """The steps of a scenario that a prompt holds: a list of steps, or {"steps": [...]}."""
    value = _json(source)
    return _checked(Script, {"steps": value} if isinstance(value, list) else value).steps


def parse_scenario(source: str | bytes) -> Scenario:
    """The rules of a scenario file: a list of {match, steps}, or {"rules": [...]}."""
    value = _json(source)
    return _checked(Scenario, {"rules": value} if isinstance(value, list) else value)


def load_scenario_file(path: str | Path) -> Scenario:
    """Read a scenario file; ScenarioError names the file, OSError passes through."""
    try:
        return parse_scenario(Path(path).read_bytes())
    except ScenarioError as error:
        raise ScenarioError(f"{path}: {error}") from error


def _json(source: str | bytes) -> Any:
    try:
        return orjson.loads(source)
    except orjson.JSONDecodeError as error:
        raise ScenarioError(f"scenario: not JSON: {error}") from error


def _checked(model: type[_M], value: Any) -> _M:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ScenarioError("scenario: " + _explain(error)) from error


def _explain(error: ValidationError) -> str:
    wrong = error.errors(include_url=False, include_input=False)
    said = [f"{_place(one['loc'])}: {one['msg']}" for one in wrong[:_SHOWN_ERRORS]]
    more = [f"and {len(wrong) - _SHOWN_ERRORS} more"] if len(wrong) > _SHOWN_ERRORS else []
    return "; ".join(said + more)


def _place(location: tuple[int | str, ...]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.lstrip(".") or "the whole"
