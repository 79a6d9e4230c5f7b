import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mllm.adapters import sse
from mllm.adapters.sse import Event, EventDecoder

STREAM = (
    b": a comment\n\n"
    b"data: one\n\n"
    b"event: named\r\ndata: two\r\ndata: lines\r\n\r\n"
    b"data:no space\rid: 7\rretry: 3\r\r"
    b"event: without data\n\n"
    b"data: \xc3\xa9\xe2\x82\xac\n\n"
)
EVENTS = [Event("", "one"), Event("named", "two\nlines"), Event("", "no space"), Event("", "é€")]


def decode(*chunks: bytes) -> list[Event]:
    decoder = EventDecoder()
    return [event for chunk in chunks for event in decoder.feed(chunk)] + decoder.close()


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_do_not_depend_on_where_the_bytes_are_cut(cuts):
    edges = [0, *sorted(cuts), len(STREAM)]
    assert decode(*(STREAM[a:b] for a, b in itertools.pairwise(edges))) == EVENTS


def test_an_event_is_given_as_soon_as_it_is_complete():
    decoder = EventDecoder()
    assert decoder.feed(b"data: one\n") == []
    assert decoder.feed(b"\n") == [Event("", "one")]


def test_a_last_event_without_its_blank_line_is_not_lost():
    assert decode(b"data: [DONE]") == [Event("", "[DONE]")]
    assert decode(b"data: [DONE]\n") == [Event("", "[DONE]")]


def test_broken_characters_do_not_break_the_stream():
    assert decode(b"data: a\xffb\n\n") == [Event("", "a\ufffdb")]


@pytest.mark.parametrize("piece", [b"x" * 60, b"data: " + b"x" * 30 + b"\n"])
def test_an_event_without_an_end_is_stopped(monkeypatch, piece):
    monkeypatch.setattr(sse, "MAX_EVENT", 100)
    decoder = EventDecoder()
    with pytest.raises(ValueError, match="too long"):
        [decoder.feed(piece) for _ in range(10)]
