"""Words broken into lines as they stream in (pure): whole words, an indent, and a width that may be endless."""

from rich.cells import cell_len

_TAB = "    "


class Wrapper:
    """Breaks streamed text so that no word is cut. `width` 0 means that lines never end by themselves."""

    def __init__(self, width: int, indent: str = "  ") -> None:
        self._width = width
        self._indent = indent
        self._room = max(2, width - len(indent))  # what a word may take before it is cut after all
        self._column = len(indent)
        self._word = ""
        self._gap = ""
        self._fresh = False  # a newline was written, and its indent not yet

    def feed(self, piece: str) -> str:
        """What can be written now. The last word waits for its end."""
        out = []
        for char in piece.replace("\t", _TAB):
            if char in " \n":
                out.append(self._place())
                out.append(self._break() if char == "\n" else self._space())
            else:
                if self._width and cell_len(self._word + char) > self._room:
                    out.append(self._place())
                self._word += char
        return "".join(out)

    def flush(self) -> str:
        """The word that waited."""
        return self._place()

    def _space(self) -> str:
        self._gap += " "
        return ""

    def _break(self) -> str:
        self._gap, self._column, self._fresh = "", len(self._indent), True
        return "\n"

    def _place(self) -> str:
        if not self._word:
            return ""
        word, gap = self._word, self._gap
        self._word = self._gap = ""
        if self._width and self._column > len(self._indent) and self._column + len(gap) + cell_len(word) > self._width:
            lead, self._column = "\n" + self._indent, len(self._indent)
            gap = ""
        else:
            lead = self._indent if self._fresh else ""
            if self._width:  # at the beginning of a line, a long word takes the room of the spaces before it
                gap = gap[: max(0, self._width - self._column - cell_len(word))]
        self._fresh = False
        self._column += len(gap) + cell_len(word)
        return lead + gap + word
