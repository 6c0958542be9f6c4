"""The `cc-docker` command. `main` is its entry point; each module holds the commands of one subject."""

from cc_client.cli.app import main

__all__ = ["main"]
