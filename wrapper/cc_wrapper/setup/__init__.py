"""The setup script: it runs in the session's place before `claude` is started, in every incarnation.

output    what it writes, cut into texts for events (pure)
listener  the pipe from which that is read
script    the script from its start to its end
"""
