"""Cut a streamed reasoning trace into steps while it is being written.

The trace is asked for in this form, and read from what models make of it:

    Step 1: what is looked at first
    Step 2: what follows from it
    Label: [0]

Grammar, decided at the start of a line (after at most eight blanks, Markdown heading signs or emphasis):

- `Step 3:`, also with `.`, `)`, a dash or a full-width colon, as `Step 3 of 5:`, alone on its line, and in any case,
  begins a step when its number is higher than the last one; a recapitulation of an earlier step does not.
- `3.` or `3)` followed by white space begins a step when it is the number that comes next, the first being 1, and it
  is indented no further than the first one: lists inside a step stay inside it. Once a `Step` was seen, plain numbers
  are lists; a list before it is taken for steps.
- `Label:`, `Final label:`, `Answer:`, `Final answer:` or a line of nothing but `[number]` ends the reasoning. A step
  that begins after it goes on with the reasoning: the line was no final label.

Text before the first step is no step, and a step without text is none. Where no line begins a step, all that stands
before the final label is one step.
"""

import re

_LINES = re.compile(r"[^\n]*\n|[^\n]+")
# No marker is longer; a line that is longer and begins with none is text.
_LONGEST_MARKER = 80
_STEP = re.compile(
    r"(?P<indent>[ \t]{0,8})(?:\#{1,6}[ \t]{1,4})?(?P<emphasis>[*_]{0,3})"
    r"(?:step[ \t]{1,4}(?P<step>[0-9]{1,4})(?:[ \t]{1,4}of[ \t]{1,4}[0-9]{1,4})?[ \t]{0,4}(?P<closing>[*_]{0,3})"
    r"(?:[:：]|[.)\-–—](?=[\s*_])|[ \t]{0,8}(?=\n))"
    r"|(?P<plain>[0-9]{1,4})[.)](?=[\s*_]))",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"[ \t]{0,8}(?:\#{1,6}[ \t]{1,4})?[*_]{0,3}"
    r"(?:(?:final[ \t]{1,4})?(?:label|answer)[*_]{0,3}[ \t]{0,4}[:：]"
    r"|\[[ \t]{0,4}[0-9]{1,9}[ \t]{0,4}\][*_.]{0,4}[ \t]{0,8}\n)",
    re.IGNORECASE,
)


class StepParser:
    """Emits each step of a streamed trace once it is complete; one parser reads one trace.

    A step is complete at the next step's marker, the final label's marker or the end of the stream. Fed the same
    text in other chunks it emits the same steps, each as soon as the marker that completes it has been read. A step
    is given without its marker and without white space around it; line ends of all systems become "\\n".
    """

    def __init__(self) -> None:
        self._head = ""  # what is read of a line that may yet turn out to begin with a marker
        self._in_text = False  # the line at hand is known to begin with no marker
        self._held_return = False  # a carriage return that ended the last chunk
        self._parts: list[str] = []
        self._state = "before"  # "before" the first step, in a "step", "after" the final label, "closed"
        self._number = 0
        self._indent = 0
        self._is_worded = False
        self._emphasis = ""

    def feed(self, text: str) -> list[str]:
        """Read the next piece of the trace, of any length; the steps that it completes, in order.

        Raises ValueError after `close`.
        """
        if self._state == "closed":
            raise ValueError("The trace is closed. Read another trace with a new StepParser.")
        if not text:
            return []
        if self._held_return:
            text = "\r" + text
        self._held_return = text.endswith("\r")
        text = text.removesuffix("\r").replace("\r\n", "\n").replace("\r", "\n")
        return [step for piece in _LINES.findall(text) for step in self._read(piece)]

    def close(self) -> list[str]:
        """The stream has ended, by itself or half-way: the step that was being written, if any.

        Closing again gives no more steps.
        """
        if self._state == "closed":
            return []
        completed = self._read("\n")
        completed += self._complete()
        self._state = "closed"
        return completed

    def _read(self, piece: str) -> list[str]:
        """Read a piece of one line, with or without the line's end."""
        line_ends = piece.endswith("\n")
        if self._in_text:
            self._keep(piece)
            self._in_text = not line_ends
            return []
        self._head += piece
        marker = _STEP.match(self._head)
        completed: list[str] = []
        if marker is not None and self._begins_step(marker):
            completed = self._begin_step(marker)
        elif _LABEL.match(self._head):
            completed = self._complete()
            self._state = "after"
        elif line_ends or len(self._head) > _LONGEST_MARKER:
            self._keep(self._head)
        else:
            return []
        self._head = ""
        self._in_text = not line_ends
        return completed

    def _begins_step(self, marker: re.Match[str]) -> bool:
        if marker["plain"]:
            if self._is_worded or int(marker["plain"]) != self._number + 1:
                return False
            return self._number == 0 or _width(marker["indent"]) <= self._indent
        number = int(marker["step"])
        if self._is_worded or self._number:
            return number > self._number or (number == 1 and not self._is_worded)
        return True

    def _begin_step(self, marker: re.Match[str]) -> list[str]:
        completed = self._complete() if self._state == "step" else []
        if self._number == 0:
            self._indent = _width(marker["indent"])
        self._is_worded = self._is_worded or marker["step"] is not None
        self._number = int(marker["step"] or marker["plain"])
        self._emphasis = "" if marker["closing"] else marker["emphasis"]
        self._parts = [self._head[marker.end() :]]
        self._state = "step"
        return completed

    def _keep(self, text: str) -> None:
        if self._state in ("before", "step"):
            self._parts.append(text)

    def _complete(self) -> list[str]:
        """The text at hand as a step, unless there is none."""
        text = "".join(self._parts)
        self._parts = []
        if self._state == "step" and self._emphasis:
            text = text.replace(self._emphasis, "", 1)  # what closes the emphasis that the marker opened
        text = text.strip()
        return [text] if text else []


def _width(indent: str) -> int:
    return len(indent.expandtabs(4))


def steps_of(trace: str) -> list[str]:
    """All steps of a logged trace, as a `StepParser` emits them from the stream."""
    parser = StepParser()
    return parser.feed(trace) + parser.close()
