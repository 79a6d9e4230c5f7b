"""The review screen's commands, the keys that they have, and how a person may change them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from annotate.errors import Refusal
from annotate.task_types import TaskType

MOST_KEYS = 3  # of one command

# As a browser names keys: one character, or a word such as "F2". Letters are written small, capitals with "Shift+".
_KEY = re.compile(r"(Alt\+)?(Shift\+)?(\S|F([1-9]|1[0-2])|Insert|Delete|Backspace)")
_LABEL_KEY = re.compile(r"[1-9]")


@dataclass(frozen=True, slots=True)
class Command:
    """Something that a key does. `keys` are the usual ones, the first of them shown on buttons."""

    name: str
    words: str
    keys: tuple[str, ...]
    group: str = "Answers"
    needs: str = (
        ""  # "image", "labels", "written", "facts", "span" or "words": where it exists; "" everywhere
    )


COMMANDS = (
    Command("search", "Find a label by its name", ("/",), needs="labels"),
    Command("edit", "Change the answer", ("e",), needs="written"),
    Command("span", "Choose the answer in the text by keyboard", ("m",), needs="span"),
    Command("place", "Take the next place where the answer stands", ("o",), needs="span"),
    Command("no_answer", "The text holds no answer", ("x",), needs="span"),
    Command("fact_next", "To the next fact in doubt", ("f",), needs="facts"),
    Command("fact_previous", "To the fact in doubt before", ("Shift+F",), needs="facts"),
    Command("skip", "Skip, with a reason if you like", ("s",)),
    Command("undo", "Undo your last answer; again for the one before", ("u",)),
    Command("note", "Write a note, or quote the marked words in it", ("n",)),
    Command("words", "Mark words of the text by keyboard", ("v",), group="Text", needs="words"),
    Command("text_larger", "Larger text", (".",), group="Text"),
    Command("text_smaller", "Smaller text", (",",), group="Text"),
    Command("zoom", "Zoom in, and back to the whole image", ("z",), group="Image", needs="image"),
    Command("zoom_in", "Larger", ("+", "="), group="Image", needs="image"),
    Command("zoom_out", "Smaller", ("-",), group="Image", needs="image"),
    Command("fit", "The whole image", ("w", "0"), group="Image", needs="image"),
    Command("actual_size", "Dot by dot (100%)", ("a",), group="Image", needs="image"),
    Command("rotate_right", "Turn to the right", ("r", "]"), group="Image", needs="image"),
    Command("rotate_left", "Turn to the left", ("Shift+R", "["), group="Image", needs="image"),
    Command("contrast", "Contrast and brightness", ("c",), group="Image", needs="image"),
    Command("invert", "Invert the colors", ("i",), group="Image", needs="image"),
    Command("guidelines", "The guidelines", ("g",), group="Screen"),
    Command("help", "These keys", ("?",), group="Screen"),
)
_BY_NAME = {command.name: command for command in COMMANDS}


def commands_of(task: TaskType) -> list[Command]:
    """The commands that the review screen has for a project's task."""
    there = {
        "": True,
        "image": task.needs_image,
        "labels": not task.is_written,
        "written": task.is_written and not task.is_span,
        "span": task.is_span,
        # Where the answer itself is chosen in the text, words are marked in no other way.
        "words": not task.is_span,
        "facts": task.is_written and task.checks_facts,
    }
    return [command for command in COMMANDS if there[command.needs]]


def label_keys(names: Sequence[str]) -> list[str]:
    """The key that gives each of a project's labels on the review screen, in their order; "" where there is none.

    Labels that are digits, all of them, have their own; otherwise the first nine have 1 to 9.
    """
    if all(_is_digit(name) for name in names):
        return list(names)
    return [str(place) if place <= 9 else "" for place in range(1, len(names) + 1)]


def _is_digit(name: str) -> bool:
    return len(name) == 1 and name in "0123456789"


def changed_keys(
    current: Mapping[str, Sequence[str]], changes: Mapping[str, Sequence[str] | None]
) -> dict[str, list[str]]:
    """The keys that differ from the usual, by command, after the changes; None gives a command its usual ones back.

    Raises Refusal for a command that there is not, a key that cannot be one, and one that another command has.
    """
    keys = {name: list(each) for name, each in current.items() if name in _BY_NAME}
    for name, wanted in changes.items():
        if name not in _BY_NAME:
            raise Refusal(f"There is no command “{name}”.", field="keys")
        if wanted is None or tuple(wanted) == _BY_NAME[name].keys:
            keys.pop(name, None)
        else:
            keys[name] = _checked(wanted)
    _require_no_clash(keys, changes)
    return keys


def _checked(wanted: Sequence[str]) -> list[str]:
    if not 1 <= len(wanted) <= MOST_KEYS:
        raise Refusal(f"A command has one to {MOST_KEYS} keys.", field="keys")
    for key in wanted:
        if not _KEY.fullmatch(key) or _LABEL_KEY.fullmatch(key):
            raise Refusal(
                f"“{key}” cannot be its key: take a letter, a sign, or F1 to F12. Digits are the labels'.",
                field="keys",
            )
    return list(dict.fromkeys(wanted))


def _require_no_clash(keys: Mapping[str, Sequence[str]], changes: Mapping[str, object]) -> None:
    owners: dict[str, Command] = {}
    for command in COMMANDS:
        for key in keys.get(command.name, command.keys):
            other = owners.setdefault(key, command)
            if other is not command and not {other.name, command.name}.isdisjoint(changes):
                raise Refusal(
                    f"“{key}” is the key of “{other.words}” and of “{command.words}”: change one of them.",
                    field="keys",
                )
