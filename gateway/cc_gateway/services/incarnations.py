"""What the internal listener asks of the record: which incarnation lives, and that the model has been asked."""

from cc_gateway.stores import turns
from cc_gateway.stores.engine import Database


class Incarnations:
    """Answers about the present incarnations of sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def admit(self, session_id: str, incarnation: int) -> bool | None:
        """Whether a request of this incarnation is the first of the turn that runs; None where it does not live."""
        async with self._database.read() as connection:
            live = await turns.live(connection, session_id)
        if live is None or live.incarnation != incarnation:
            return None
        return live.model_requested is False

    async def note_model_request(self, session_id: str, incarnation: int) -> None:
        """Commit that the model has heard of the running turn."""
        async with self._database.write() as connection:
            await turns.mark_model_request(connection, session_id, incarnation)
