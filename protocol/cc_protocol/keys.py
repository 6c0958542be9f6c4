"""The Redis keys and channels: the only place that spells their names.

| Name                          | Kind    | Written by | Read by  | What it carries                           |
|-------------------------------|---------|------------|----------|-------------------------------------------|
| `session:{<id>}:input`        | stream  | gateway    | wrapper  | commands and acknowledgements (field `c`) |
| `session:{<id>}:outbox:<inc>` | stream  | wrapper    | gateway  | what must be kept (field `e`)             |
| `session:{<id>}:preview`      | channel | wrapper    | gateway  | token deltas: may be lost                 |
| `session:{<id>}:output`       | channel | gateway    | gateways | recorded events, as hints                 |

An outbox is one key an incarnation, so that a successor never inherits a stream that was wedged.

The braces are part of the name: a cluster keeps what stands between them on one node. Nothing here has to
survive: after a total loss of Redis everything is rebuilt from the database and the wrappers' memory.
"""

from typing import Final

COMMAND_FIELD: Final = "c"
ENTRY_FIELD: Final = "e"
OUTPUT_PATTERN: Final = "session:{*}:output"
PREVIEW_PATTERN: Final = "session:{*}:preview"


def input_stream(session_id: str) -> str:
    return f"session:{{{session_id}}}:input"


def outbox_stream(session_id: str, incarnation: int) -> str:
    return f"session:{{{session_id}}}:outbox:{incarnation}"


def preview_channel(session_id: str) -> str:
    return f"session:{{{session_id}}}:preview"


def output_channel(session_id: str) -> str:
    return f"session:{{{session_id}}}:output"


def session_of(name: str) -> str:
    """The session id in a key's or channel's name."""
    return name[name.index("{") + 1 : name.index("}")]
