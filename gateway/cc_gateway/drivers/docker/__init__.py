"""The `docker` driver: a session is a container of its own, on a Docker engine that aiodocker reaches.

`driver` keeps the contract; `container` says what a container is made of (pure), `engine` asks the engine and translates
its errors, `image` says which image is ours.
"""

from cc_gateway.drivers.docker.driver import DockerDriver, DockerOptions
from cc_gateway.drivers.docker.engine import engine_answers

__all__ = ["DockerDriver", "DockerOptions", "engine_answers"]
