"""One text of the agent as it streams in (pure state): what of it can be written now, and what its end adds.

The pieces are a prefix of the final text, which alone counts. Where it turns out otherwise, the final text is shown whole.
"""

from dataclasses import dataclass, field

from cc_client.render.clean import Cleaner
from cc_client.render.wrap import Wrapper


@dataclass(slots=True)
class Streamed:
    """A block with its bullet. `shown` says whether any of it is on the screen."""

    kind: str
    wrapper: Wrapper
    cleaner: Cleaner = field(default_factory=Cleaner)
    raw: list[str] = field(default_factory=list)
    shown: bool = False
    live: bool = True

    def piece(self, text: str) -> str:
        """The next piece, as it is written."""
        self.raw.append(text)
        return self._written(self.cleaner.feed(text))

    def rest(self, final: str) -> str | None:
        """What the final text adds to the pieces; None where they are no prefix of it."""
        so_far = "".join(self.raw)
        if not self.live or not final.startswith(so_far):
            return None
        added = self.cleaner.feed(final[len(so_far) :]) + self.cleaner.flush()
        return self._written(added) + self.wrapper.flush()

    def pause(self) -> str:
        """Give up the line for something else; the next piece goes on below."""
        return self.wrapper.flush() + self.wrapper.feed("\n")

    def _written(self, text: str) -> str:
        if not self.shown:
            text = text.lstrip()
            self.shown = bool(text)
        return self.wrapper.feed(text)


def whole(text: str, wrapper: Wrapper) -> str:
    """A cleaned text that did not stream."""
    return wrapper.feed(text.strip()) + wrapper.flush()
