"""Nothing that an agent says can steer the terminal."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cc_client.render.clean import Cleaner, clean, one_line
from cc_client.render.wrap import Wrapper

ESCAPES = st.lists(
    st.sampled_from(
        [
            "a",
            " b",
            "\n",
            "\t",
            "\x1b",
            "[",
            "]",
            "31m",
            "52;c;",
            "aGk=",
            "\x07",
            "\x1b\\",
            "\x9b",
            "\x9d",
            "\x00",
            "\r",
            "ü",
        ]
    )
).map("".join)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("\x1b]52;c;aGFja2Vk\x07x", "x"),  # the clipboard
        ("\x1b]52;c;aGFja2Vk\x1b\\x", "x"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b[2J\x1b[1;1H\x1b[31mred\x1b[0m", "red"),
        ("\x9b31mred\x9d0;t\x9c", "red"),
        ("\x1bPq#0;2;0\x1b\\x", "x"),
        ("\x1bc\x1b(0x", "x"),
        ("a\rb\x08c\x00d\x7f", "abcd"),
        ("line\r\nline\ttab", "line\nline\ttab"),
        ("\u202eevil\u2066", "evil"),
        ("half \ud800 emoji 👩‍👩‍👧", "half \ufffd emoji 👩‍👩‍👧"),
        ("\x1b]52;never ends\nnext line", "]52;never ends\nnext line"),
        ("\x1b", ""),
    ],
)
def test_escape_sequences_and_controls_go_and_words_stay(said: str, shown: str) -> None:
    assert clean(said) == shown


@given(st.one_of(ESCAPES, st.text()))
def test_no_control_character_is_left(said: str) -> None:
    assert not [char for char in clean(said) if (ord(char) < 32 and char not in "\n\t") or 0x7F <= ord(char) <= 0x9F]
    clean(said).encode()  # no half of a surrogate pair


@given(ESCAPES, st.data())
def test_cut_into_pieces_it_reads_the_same(said: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(said)), max_size=8)))
    cleaner = Cleaner()
    pieces = [said[start:end] for start, end in zip([0, *cuts], [*cuts, len(said)], strict=True)]
    assert "".join(map(cleaner.feed, pieces)) + cleaner.flush() == clean(said)


def test_one_line_is_one_short_line() -> None:
    assert one_line("a\n\x1b[1mb   c\n") == "a b c"
    assert one_line("x" * 50, 10) == "x" * 9 + "…"


@example(" aaaaaaaa", 8, 0)
@example("aaaaa漢漢", 8, 0)
@given(st.text(st.sampled_from("ab \n漢")), st.integers(8, 30), st.integers(0, 100))
def test_wrapping_keeps_every_word_and_the_width(said: str, width: int, cut: int) -> None:
    wrapper = Wrapper(width)
    out = "  " + wrapper.feed(said[:cut]) + wrapper.feed(said[cut:]) + wrapper.flush()
    assert "".join(out.split()) == "".join(said.split())
    assert all(len(line) + line.count("漢") <= width for line in out.split("\n"))


def test_lines_break_between_words_and_are_indented() -> None:
    wrapper = Wrapper(20)
    assert wrapper.feed("a long sentence of words\n\n  code  here ") + wrapper.flush() == (
        "a long sentence of\n  words\n\n    code  here"
    )


def test_without_a_width_lines_do_not_break() -> None:
    wrapper = Wrapper(0)
    assert wrapper.feed("word " * 100) + wrapper.flush() == ("word " * 100).rstrip()
