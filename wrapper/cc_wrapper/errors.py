"""The errors of the wrapper: one root, fields instead of prose."""


class WrapperError(Exception):
    """The root. `code` is for machines, `message` for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class ConfigurationError(WrapperError):
    """What the wrapper was given to start with cannot be used."""

    def __init__(self, message: str) -> None:
        super().__init__("configuration", message)


class FatalError(WrapperError):
    """The session cannot go on in this incarnation; it is reported as a `Fatal` entry."""


class ControlError(WrapperError):
    """`claude` refused a control request, or did not answer it in time."""
