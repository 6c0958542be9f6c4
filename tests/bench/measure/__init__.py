"""The measurements: one module a subject, each with `async def measure(world) -> list[Row]`."""

from collections.abc import Awaitable, Callable

from bench.figures import Row
from bench.measure import deliveries, latency, memory, model, ready, recording, turn
from bench.world import World

Measure = Callable[[World], Awaitable[list[Row]]]

MEASUREMENTS: dict[str, tuple[Measure, str]] = {
    "ready": (ready.measure, "create a session until it takes prompts, against a bare start"),
    "turn": (turn.measure, "a warm turn over REST and over WebSocket, against a bare claude"),
    "latency": (latency.measure, "from a line of claude to a WebSocket client"),
    "deliveries": (deliveries.measure, "events delivered per second to one listener and to a hundred"),
    "recording": (recording.measure, "events recorded per second, from outbox to acknowledgement"),
    "memory": (memory.measure, "memory of an idle session, against an idle bare claude"),
    "model": (model.measure, "first byte of a model's answer through the proxy, against none"),
}
"""By the names that `--only` takes, in the order in which they run."""
