"""What a script writes becomes texts of a bounded size: whole lines and whole characters, to a limit."""

import pytest

from cc_wrapper.setup.output import Output


def fed(output: Output, *pieces: bytes) -> list[str]:
    return [text for piece in pieces for text in output.feed(piece)] + output.close()


def test_little_output_waits_for_more() -> None:
    output = Output()
    assert (output.feed(b"one\n"), output.waits) == ([], True)
    assert (output.flush(), output.waits) == (["one\n"], False)


def test_a_line_that_has_begun_waits_for_its_end() -> None:
    output = Output()
    output.feed(b"one\ntw")
    assert output.flush() == ["one\n"]
    output.feed(b"o\n")
    assert output.flush() == ["two\n"]


def test_a_line_that_does_not_end_is_told_all_the_same() -> None:
    output = Output()
    output.feed(b"50 % ")
    assert output.flush() == ["50 % "]
    assert output.flush() == []


def test_a_full_text_ends_with_its_last_whole_line() -> None:
    output = Output(text_limit=10)
    assert output.feed(b"aaa\nbbb\nccc\nddd\n") == ["aaa\nbbb\n"]
    assert output.close() == ["ccc\nddd\n"]


def test_a_line_above_the_size_of_a_text_is_cut() -> None:
    assert fed(Output(text_limit=4), b"aaaabbbbcc\n") == ["aaaa", "bbbb", "cc\n"]


def test_a_character_that_comes_in_two_pieces_stays_whole() -> None:
    output = Output()
    output.feed("a\N{SNOWMAN}".encode()[:2])
    assert output.flush() == ["a"]
    assert not output.waits
    assert fed(output, "\N{SNOWMAN}".encode()[1:]) == ["\N{SNOWMAN}"]


@pytest.mark.parametrize("end", [b"\xff", b"\xe2\x98"])
def test_bytes_that_are_no_text_are_replaced(end: bytes) -> None:
    assert fed(Output(), b"a" + end) == ["a\N{REPLACEMENT CHARACTER}"]


def test_all_up_to_the_limit_is_kept_without_a_note() -> None:
    assert fed(Output(limit=6), b"aaa", b"bbb") == ["aaabbb"]


def test_what_is_beyond_the_limit_is_left_out_with_one_note() -> None:
    texts = fed(Output(limit=6), b"aaa", b"bbbb", b"cccc")
    assert texts == ["aaabbb", "\n[the rest is left out: more than 6 bytes of output]\n"]


def test_the_tail_is_of_the_very_end_also_beyond_the_limit() -> None:
    output = Output(limit=6)
    fed(output, b"".join(b"line %d\n\n" % n for n in range(1000)), b"the \rend")
    assert output.tail().splitlines() == [*[f"line {n}" for n in range(982, 1000)], "the", "end"]


def test_a_long_tail_is_cut_at_its_beginning() -> None:
    output = Output()
    fed(output, b"a" * 100_000 + b" the end\n")
    assert (len(output.tail()), output.tail()[:2], output.tail()[-8:]) == (1501, "…a", " the end")
