"""What the scripted model is told to say: the models of scenarios, rules, steps and blocks.

Pure and at the bottom of this package: it knows nothing of HTTP, of conversations or of the CLI. The format is
our own; the package's docstring shows it. How it is found and read is in source.py.
"""

import re
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

# A prompt may come from anybody, so what a script can make this process hold and how long is bounded.
MAX_TEXT_CHARS = 16 * 1024 * 1024
MAX_DELTAS = 100_000
MAX_WAIT_MS = 3_600_000

Wait = Annotated[float, Field(ge=0, le=MAX_WAIT_MS, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Failure(_Model):
    """An HTTP error instead of an answer: `times` times, then the rest of the step; without times, always."""

    status: int = Field(ge=400, le=599)
    type: str | None = None
    message: str | None = None
    retry_after: Wait | None = None
    should_retry: bool | None = None
    times: int | None = Field(default=None, ge=1)


class Cut(_Model):
    """The connection dropped in mid-stream. `times: null` is always; once suits the CLI's re-request."""

    after_deltas: Count = 1
    times: int | None = Field(default=1, ge=1)


class StreamError(Cut):
    """An SSE `error` event in mid-stream."""

    type: str = "overloaded_error"
    message: str = "Overloaded"


class UsageOverride(_Model):
    """Token counts to report instead of the estimates."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None


class Block(_Model):
    """One content block: a text (in one piece, or in the deltas given), a thought, or a tool call."""

    text: str | list[str] | None = None
    thinking: str | None = None
    tool: str | None = Field(default=None, min_length=1)
    input: dict[str, Any] | None = None
    repeat_text: int = Field(default=1, ge=1, le=MAX_TEXT_CHARS)

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        said = [name for name in ("text", "thinking", "tool") if getattr(self, name) is not None]
        if len(said) > 1:
            raise ValueError(f"{' and '.join(said)} stand together: several go into `blocks`")
        if self.input is not None and self.tool is None:
            raise ValueError("`input` goes with `tool`")
        if self.repeat_text > 1 and self.text is None:
            raise ValueError("`repeat_text` goes with `text`")
        if sum(map(len, self.chunks)) * self.repeat_text > MAX_TEXT_CHARS:
            raise ValueError(f"the text is longer than {MAX_TEXT_CHARS} characters")
        if isinstance(self.text, list) and len(self.text) * self.repeat_text > MAX_DELTAS:
            raise ValueError(f"the text has more than {MAX_DELTAS} deltas")
        return self

    @property
    def chunks(self) -> list[str]:
        return [self.text] if isinstance(self.text, str) else self.text or []

    @property
    def is_empty(self) -> bool:
        return self.text is None and self.thinking is None and self.tool is None


class Step(Block):
    """One response of the model: what it says, how it is sent, and what goes wrong on the way."""

    blocks: list[Block] | None = Field(default=None, min_length=1, max_length=100)
    delay_ms: Wait = 0
    chunk_delay_ms: Wait = 0
    chunk_chars: int | None = Field(default=None, ge=1)
    hang_ms: Wait = 0
    error: Failure | None = None
    cut: Cut | None = None
    sse_error: StreamError | None = None
    stop_reason: str | None = Field(default=None, min_length=1)
    usage: UsageOverride = UsageOverride()

    @field_validator("cut", "sse_error", mode="before")
    @classmethod
    def _true_is_the_default(cls, value: Any) -> Any:
        return ({} if value else None) if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("an empty step: it needs `text`, `thinking`, `tool`, `blocks` or a fault")
        if self.blocks is None:
            return self
        if not self.is_empty:
            raise ValueError("`blocks` stands with `text`, `thinking` or `tool`: put those into it")
        if any(block.is_empty for block in self.blocks):
            raise ValueError("a block needs `text`, `thinking` or `tool`")
        return self

    @property
    def content(self) -> list[Block]:
        """The blocks to send. A step that only tells of faults says "done" when it has no fault left."""
        if self.blocks is not None:
            return self.blocks
        return [Block(text="done")] if self.is_empty else [self]


Steps = Annotated[list[Step], Field(min_length=1, max_length=1000)]


class Script(_Model):
    """The object form of a scenario in a prompt."""

    steps: Steps


class Rule(_Model):
    """Which script answers which prompt: `match` is searched in the last user prompt; null matches all."""

    match: str | None = None
    steps: Steps

    @field_validator("match")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return value

    def matches(self, prompt: str) -> bool:
        return self.match is None or re.search(self.match, prompt) is not None


class Scenario(_Model):
    """Rules in order of preference: the first that matches a prompt answers it."""

    rules: list[Rule] = Field(max_length=1000)

    def steps_for(self, prompt: str) -> list[Step] | None:
        return next((rule.steps for rule in self.rules if rule.matches(prompt)), None)
