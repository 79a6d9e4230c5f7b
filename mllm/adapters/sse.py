"""Server-sent events, the form in which providers stream."""

import codecs
from dataclasses import dataclass

MAX_EVENT = 4 * 1024 * 1024  # characters; a server that never ends an event would fill the memory


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    data: str


class EventDecoder:
    """Bytes in, whole events out. Understands \\n, \\r\\n and \\r, comments, and data over several lines.

    Raises ValueError where one event exceeds `MAX_EVENT` characters.
    """

    def __init__(self) -> None:
        # "replace": a broken character spoils a letter of the answer, not the call.
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""
        self._name = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[Event]:
        text = self._pending + self._text.decode(chunk)
        # A last \r may be the first half of \r\n.
        held = "\r" if text.endswith("\r") else ""
        lines = text[: len(text) - len(held)].replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._pending = lines.pop() + held
        events = [event for line in lines if (event := self._take(line)) is not None]
        if self._size + len(self._pending) > MAX_EVENT:
            raise ValueError("One event of the stream is too long.")
        return events

    def close(self) -> list[Event]:
        """What is complete but for its blank line: some servers leave the last one out."""
        events = self.feed(b"\n\n")
        self._pending = ""
        return events

    def _take(self, line: str) -> Event | None:
        if not line:
            event = Event(self._name, "\n".join(self._data)) if self._data else None
            self._name, self._data, self._size = "", [], 0
            return event
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._size += len(value)
        elif name == "event":
            self._name = value
        return None
