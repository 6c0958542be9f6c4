"""The only way from a session to a model: `proxy` puts the key in and passes the stream through, `upstream` says to whom.

`scripted/` is a model of our own that answers from a script, for demos without an account and for tests.
"""
