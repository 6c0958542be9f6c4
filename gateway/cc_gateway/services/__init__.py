"""The use cases: what a session, a turn, a listener is, and what may be done with them.

- `recorder` writes the record and tells listeners; everything that states a fact goes through it
- `sessions`, `turns`, `conversation` are what the API offers
- `feed` is how anybody follows a session
- `lifecycle`, `dispatch`, `intake` are the moves of the loops above: start and end an incarnation, hand over a turn,
  take in what a wrapper reports
- `folders`, `launching` say where a session's things lie and what its wrapper is told
"""
