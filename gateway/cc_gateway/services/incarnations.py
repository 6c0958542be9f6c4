"""What the internal listener asks of the record: which incarnation lives, and that the model has been asked."""

from cc_gateway.stores import sessions, turns
from cc_gateway.stores.engine import Database


class Incarnations:
    """Answers about the present incarnations of sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def is_current(self, session_id: str, incarnation: int) -> bool:
        async with self._database.read() as connection:
            return await sessions.live_incarnation(connection, session_id) == incarnation

    async def note_model_request(self, session_id: str, incarnation: int) -> None:
        """Commit that the model has heard of the running turn; the second request of a turn costs no write."""
        async with self._database.read() as connection:
            turn = await turns.running(connection, session_id)
        if turn is None or turn.model_requested:
            return
        async with self._database.write() as connection:
            await turns.mark_model_request(connection, session_id, incarnation)
