"""Lines come out as they went in, whatever the chunks."""

from hypothesis import given
from hypothesis import strategies as st

from cc_wrapper.claude.framing import Framer, Oversize

LINE = st.binary(max_size=50).map(lambda line: line.replace(b"\n", b".").strip()).filter(bool)


@given(st.lists(LINE, max_size=20), st.lists(st.integers(1, 40), min_size=1, max_size=50))
def test_any_cut_of_a_stream_gives_the_same_lines(lines: list[bytes], sizes: list[int]) -> None:
    stream, out = b"".join(line + b"\n" for line in lines), []
    framer = Framer(limit=1000)
    while stream:
        size = sizes.pop() if sizes else 7
        out += framer.feed(stream[:size])
        stream = stream[size:]
    assert out + framer.close() == lines


@given(st.lists(st.integers(1, 30), max_size=30), st.integers(1, 9))
def test_only_lines_above_the_limit_are_left_out_and_their_size_is_told(sizes: list[int], chunk: int) -> None:
    stream, out = b"".join(b"x" * size + b"\n" for size in sizes), []
    framer = Framer(limit=15)
    for start in range(0, len(stream), chunk):
        out += framer.feed(stream[start : start + chunk])
    assert out == [b"x" * size if size <= 15 else Oversize(size) for size in sizes]


def test_a_line_without_an_end_comes_when_the_stream_ends() -> None:
    framer = Framer(limit=10)
    assert framer.feed(b"one\r\ntw") == [b"one"]
    assert framer.feed(b"o") == []
    assert framer.close() == [b"two"]
    assert framer.close() == []


def test_a_line_above_the_limit_takes_no_memory() -> None:
    framer = Framer(limit=10)
    for _ in range(100):
        assert framer.feed(b"x" * 1000) == []
        assert sum(map(len, framer._parts)) <= 10
    assert framer.feed(b"\nnext\n") == [Oversize(100_000), b"next"]
