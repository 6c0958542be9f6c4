"""The typed client of CC-Docker's gateway, and the `cc-docker` command.

    from cc_client import Client

    async with Client.discover() as client:
        session = await client.create_session(prompt="list the files here and say hello")
        async for event in client.follow(session.session_id):
            print(event.type)

Below: `errors`, `models`, `locate`, `transport`, `streaming`, then `client`; the command (`cli/`) and what it draws
(`render/`) stand on top. It talks to the gateway over its public API alone and knows nothing of its insides.
"""

from cc_client.client import Client
from cc_client.errors import ApiError, CCClientError, GatewayStartError, NoGateway, Unreachable, UsageProblem
from cc_client.models import Event, EventPage, Message, Page, Preview, Session, Turn

__all__ = [
    "ApiError",
    "CCClientError",
    "Client",
    "Event",
    "EventPage",
    "GatewayStartError",
    "Message",
    "NoGateway",
    "Page",
    "Preview",
    "Session",
    "Turn",
    "Unreachable",
    "UsageProblem",
]
