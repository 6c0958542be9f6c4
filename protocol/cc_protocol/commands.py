"""What the gateway tells a wrapper, on the stream `session:{id}:input`.

Every command names the incarnation that it is meant for; a wrapper ignores those meant for another. Commands may come
twice (the gateway repeats what it is not sure of): each is idempotent, by `turn_id`, by `n` or by its nature.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from cc_protocol.events import Content


class _Command(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    incarnation: int


class Prompt(_Command):
    """Run this turn. Taken once for a `turn_id`; sent only when the turn before has ended."""

    type: Literal["prompt"] = "prompt"
    turn_id: str
    content: Content


class Interrupt(_Command):
    """End this turn, if it is the one that runs; else do nothing."""

    type: Literal["interrupt"] = "interrupt"
    turn_id: str


class Configure(_Command):
    """Change what a running `claude` can change; absent means keep."""

    type: Literal["configure"] = "configure"
    model: str | None = None
    permission_mode: str | None = None


class Ack(_Command):
    """Everything up to outbox entry `n` is in the record: forget it. With `resend`, what stood behind it is missing."""

    type: Literal["ack"] = "ack"
    n: int = Field(ge=0)
    resend: bool = False


Command = Annotated[Prompt | Interrupt | Configure | Ack, Field(discriminator="type")]
COMMAND: Final[TypeAdapter[Any]] = TypeAdapter(Command)
