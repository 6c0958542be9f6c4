"""Model and permission mode: what was chosen last, and how a running `claude` is told.

Above it: the conductor, which lets no prompt through while a change is on its way. Below it: control requests.
"""

import logging
from typing import Final, get_args

from cc_protocol.commands import Configure
from cc_protocol.launch import Launch, PermissionMode
from cc_wrapper.claude.command import Choices
from cc_wrapper.errors import ControlError
from cc_wrapper.life import Life
from cc_wrapper.reporter import Reporter

_SECONDS: Final = 10.0

log = logging.getLogger(__name__)


class Chooser:
    def __init__(self, launch: Launch, reporter: Reporter) -> None:
        self._allow_bypass = launch.allow_bypass
        self._reporter = reporter
        self.chosen = Choices(launch.model, launch.permission_mode)

    def take(self, command: Configure) -> None:
        """Take over what is allowed; what the command leaves open stays."""
        mode = command.permission_mode
        if mode is not None and not self._may_use(mode):
            self._reporter.problem("configuration_error", f"permission mode {mode[:100]!r} is not allowed here")
            mode = None
        self.chosen = Choices(command.model or self.chosen.model, mode or self.chosen.permission_mode)

    def _may_use(self, mode: str) -> bool:
        """The CLI accepts any word, so it is checked here."""
        return mode in get_args(PermissionMode) and (mode != "bypassPermissions" or self._allow_bypass)

    async def tell(self, life: Life, before: Choices) -> bool:
        """Tell a `claude` that works by `before` what is chosen now. One that refuses is killed: the next starts with it."""
        now = self.chosen
        try:
            if now.model != before.model:
                await life.control.request("set_model", _SECONDS, model=now.model)
            if now.permission_mode != before.permission_mode:
                await life.control.request("set_permission_mode", _SECONDS, mode=now.permission_mode)
        except ControlError as error:
            log.warning("claude refuses a change: starting it again", extra={"code": error.code})
            life.process.kill()
            return False
        return True
