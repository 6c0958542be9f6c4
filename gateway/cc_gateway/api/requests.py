"""What the API takes, as JSON. Unknown fields are refused, and what cannot be kept."""

import json
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from cc_gateway.api import examples
from cc_gateway.models import SessionConfig, Workspace, not_built_yet
from cc_protocol.launch import PermissionMode


def _storable(value: dict[str, Any]) -> dict[str, Any]:
    """JSON that can be kept and given back: no lone surrogates, no integers beyond 64 bits, no NaN, not too much."""
    try:
        json.dumps(value, allow_nan=False)
        size = len(orjson.dumps(value))
    except (TypeError, ValueError) as error:
        raise ValueError(f"cannot be kept: {error}") from None
    if size > MAX_METADATA_BYTES:
        raise ValueError(f"has {size} bytes as JSON; {MAX_METADATA_BYTES} are allowed")
    return value


MAX_METADATA_BYTES = 64 * 1024
Label = Annotated[str, Field(min_length=1, max_length=64)]
Metadata = Annotated[dict[Label, JsonValue], Field(max_length=64), AfterValidator(_storable)]
Title = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]*$")]

IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


# ---------------------------------------------------------------- content of a prompt


class TextBlock(_Request):
    type: Literal["text"]
    text: str = Field(min_length=1)


class Base64Image(_Request):
    type: Literal["base64"]
    media_type: Literal["image/png", "image/jpeg", "image/gif", "image/webp"]
    data: str = Field(min_length=1, pattern=r"^[A-Za-z0-9+/]+={0,2}$")


class ImageBlock(_Request):
    type: Literal["image"]
    source: Base64Image


class Base64Document(_Request):
    type: Literal["base64"]
    media_type: Literal["application/pdf"]
    data: str = Field(min_length=1, pattern=r"^[A-Za-z0-9+/]+={0,2}$")


class TextDocument(_Request):
    type: Literal["text"]
    media_type: Literal["text/plain"]
    data: str = Field(min_length=1)


class DocumentBlock(_Request):
    type: Literal["document"]
    source: Annotated[Base64Document | TextDocument, Field(discriminator="type")]
    title: str | None = Field(None, max_length=500)
    context: str | None = Field(None, max_length=10_000)


ContentBlock = Annotated[TextBlock | ImageBlock | DocumentBlock, Field(discriminator="type")]


class Prompt(_Request):
    """A prompt: a text, or blocks of text, images and documents."""

    prompt: str | None = Field(None, min_length=1, description="The prompt as text. Slash commands work too.")
    content: list[ContentBlock] | None = Field(None, min_length=1, max_length=100, description="The prompt as blocks.")

    @model_validator(mode="after")
    def _one_of_both(self) -> "Prompt":
        if (self.prompt is None) == (self.content is None):
            raise ValueError("give either `prompt` or `content`")
        return self

    def blocks(self) -> list[dict[str, Any]]:
        if self.content is not None:
            return [block.model_dump(exclude_none=True) for block in self.content]
        return [{"type": "text", "text": self.prompt}]


# ---------------------------------------------------------------- requests


class CreateSession(_Request):
    """A new session. Everything is optional; with `prompt` its first turn is queued at once."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"prompt": "list the files here and say hello"},
                {
                    "title": "Nightly review",
                    "workspace": {"type": "persistent", "id": "my-repo"},
                    "config": {"model": "claude-sonnet-5", "append_system_prompt": "Answer in French."},
                    "metadata": {"team": "infra"},
                },
            ]
        },
    )

    workspace: Workspace = Field(default_factory=Workspace)
    config: SessionConfig = Field(default_factory=SessionConfig)
    title: Title | None = None
    metadata: Metadata = Field(default_factory=dict)
    prompt: str | None = Field(None, min_length=1)


class UpdateSession(_Request):
    """Absent means keep. `metadata` merges by key, and null takes a key away; a null `title` clears it."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"title": "Renamed", "metadata": {"team": None}}]}
    )

    title: Title | None = None
    metadata: Metadata | None = None
    model: str | None = Field(None, min_length=1, max_length=256, pattern=r"^[A-Za-z0-9._:/@\[\]-]+$")
    permission_mode: PermissionMode | None = None

    _planned = model_validator(mode="before")(staticmethod(not_built_yet))


class Chat(Prompt):
    """A prompt and how to wait for its answer."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"prompt": "list the files here and say hello"},
                {"content": [{"type": "text", "text": "What is this?"}], "stream": True},
            ]
        },
    )

    stream: bool = Field(False, description="Do not wait: answer 202 with the turn's id, and follow the events.")
    timeout_seconds: float | None = Field(
        None, gt=0, le=86_400, description="Longest wait. The turn goes on after it; the answer is then 202."
    )


class Interrupt(_Request):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{}, {"turn_id": examples.TURN_ID}]})

    turn_id: str | None = Field(None, description="The turn that is meant. Default: the one that runs.")
