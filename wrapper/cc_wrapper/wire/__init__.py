"""Redis, as the one ACL user that sees this session's keys alone.

link      a connection, and for how long there has been none
outbox    numbered entries, kept until they are acknowledged
previews  token deltas, shed when they cannot be sent
inbox     commands of the gateway
"""
