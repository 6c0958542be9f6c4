"""The `cc-docker` MCP server: the tools by which an agent opens child sessions and asks a person.

It runs in the session's container, beside the wrapper, and knows only `cc_protocol`. The room is here so
that the floors are enforced from the first commit; the tools come with "Agents that spawn agents".
"""
