"""What the gateway and a session's container say to each other, defined once.

The ground floor: it depends on pydantic and the standard library, knows neither side, and is installed on both.

- `events`: the facts of a session, in the vocabulary of Anthropic's Managed Agents API
- `commands`: what the gateway tells a wrapper
- `outbox`: what a wrapper reports, entry by entry
- `keys`: the Redis keys and channels on which both travel
- `launch`: the two files from which a wrapper learns who it is
"""
