"""Redis, over which gateway and sessions talk.

`embedded` runs one of our own, `access` says which keys a session may touch, `bus` sends and reads. Nothing in Redis has
to survive: it is rebuilt from the database and the wrappers' memory.
"""
