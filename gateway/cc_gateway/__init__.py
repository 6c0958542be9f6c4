"""The gateway: a FastAPI service that gives each session a place to run, records what it does, and streams it.

Floors, each importing only what lies below: `app`, `__main__` | `api` | `loops` | `services` | `model_proxy` |
`drivers`, `stores`, `blobs`, `redis`, `auth`, `internal` | `errors`, `models`, `settings`, `cc_protocol`.
"""

__version__ = "0.1.0"
