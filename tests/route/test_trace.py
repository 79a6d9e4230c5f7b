"""Steps are cut alike in whatever chunks a trace arrives, and as soon as they are complete."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from route.trace import StepParser, steps_of

TRACES = {
    "the form asked for": ("Step 1: look\nStep 2: decide\nLabel: [1]", ["look", "decide"]),
    "empty": ("", []),
    "blank": (" \n\t\r\n", []),
    "died half-way in a step": ("Step 1: look\nStep 2: de", ["look", "de"]),
    "died in a marker": ("Step 1: look\nStep", ["look\nStep"]),
    "died right after a marker": ("Step 1: look\nStep 2:", ["look"]),
    "numbers": ("1. look\n2. decide\n[0]", ["look", "decide"]),
    "numbers in parentheses": ("1) look\n2) decide", ["look", "decide"]),
    "marker on a line of its own": ("1.\nlook\n2.\ndecide", ["look", "decide"]),
    "text before the first step": ("Let me see.\n\nStep 1: look\nStep 2: decide", ["look", "decide"]),
    "no steps at all": ("It is a cat.\nIt purrs.\nLabel: [0]", ["It is a cat.\nIt purrs."]),
    "nothing but a label": ("Label: [0]", []),
    "decimals": (
        "1. The first costs 3.5\n3.5 is more\n2. decide",
        ["The first costs 3.5\n3.5 is more", "decide"],
    ),
    "decimal of the next number": ("1. weigh\n2.5 kg\n2. decide", ["weigh\n2.5 kg", "decide"]),
    "step inside a sentence": ("Step 1: see Step 2: not yet\nStep 2: now", ["see Step 2: not yet", "now"]),
    "list in a worded step": (
        "Step 1: parts\n1. ear\n2. tail\nStep 2: decide",
        ["parts\n1. ear\n2. tail", "decide"],
    ),
    "indented list": (
        "1. parts\n   1. ear\n   2. tail\n2. decide",
        ["parts\n   1. ear\n   2. tail", "decide"],
    ),
    "list out of order": ("1. years\n1984. A year.\n2. decide", ["years\n1984. A year.", "decide"]),
    "recapitulation": ("Step 1: a\nStep 2: b\nStep 1: was a\nStep 3: c", ["a", "b\nStep 1: was a", "c"]),
    "number left out": ("Step 1: a\nStep 3: c", ["a", "c"]),
    "several digits": ("Step 9: a\nStep 10: b", ["a", "b"]),
    "emphasis": ("**Step 1:** *a* **b**\n**Step 2**: **c**\n**Final label:** [1]", ["*a* **b**", "**c**"]),
    "emphasized title": ("**1. Look** at it\n**2. Decide**", ["Look at it", "Decide"]),
    "heading": ("### Step 1 – Look\nat it\n### Step 2: Decide\n", ["Look\nat it", "Decide"]),
    "alone on its line": ("### Step 1\nlook\n**Step 2**  \ndecide\nLabel: [0]", ["look", "decide"]),
    "so many steps": ("Step 1 of 2: look\n**Step 2 of 2**\ndecide", ["look", "decide"]),
    "a number that goes on": ("Step 1: go to\nStep 2 again\nStep 2: so", ["go to\nStep 2 again", "so"]),
    "died in a numbered marker": ("Step 1: look\nStep 2", ["look"]),
    "case and dots": ("STEP 1. a\nstep 2) b\nFINAL ANSWER: c", ["a", "b"]),
    "carriage returns": ("Step 1: a\r\nb\r\nStep 2: c\r\nLabel: [0]\r\n", ["a\nb", "c"]),
    "old carriage returns": ("Step 1: a\rStep 2: b", ["a", "b"]),
    "other scripts": (
        "Step 1：看图\nStep 2: gatto 🐈\u2028e cane\nLabel： [0]",
        ["看图", "gatto 🐈\u2028e cane"],
    ),
    "digits of other scripts": ("Step 1: a\nStep ٢: b", ["a\nStep ٢: b"]),
    "a label that was not final": ("Step 1: it says\nLabel: cheap\nStep 2: so", ["it says", "so"]),
    "text after the label": ("Step 1: a\nLabel: [0]\nI hope this helps.\n1. x", ["a"]),
    "bracketed number inside": ("Step 1: a\n[3] is a source\nStep 2: b\n[1]", ["a\n[3] is a source", "b"]),
    "empty step": ("Step 1:\n\nStep 2: b", ["b"]),
    "list before the steps": ("1. cat\nStep 1: a\n2. dog\nStep 2: b", ["cat", "a\n2. dog", "b"]),
    "long line": ("Step 1: " + "a " * 200 + "\nStep 2: b", [("a " * 200).strip(), "b"]),
    "long line before": ("-" * 200 + "Step 9: x\nStep 1: a", ["a"]),
}


@pytest.mark.parametrize(("trace", "steps"), TRACES.values(), ids=TRACES.keys())
def test_the_grammar(trace, steps):
    assert steps_of(trace) == steps
    assert read([*trace]) == steps


def read(chunks: list[str]) -> list[str]:
    parser = StepParser()
    return [step for chunk in chunks for step in parser.feed(chunk)] + parser.close()


MARKS = [
    "Step 1:",
    "Step 2:",
    "Step 2\n",
    "step 3",
    "Step 4 of 5:",
    "**Step 2:**",
    "1.",
    "2.",
    "2)",
    "Label:",
    "Final",
    "answer：",
    "[1]",
]
OTHERS = [
    "3.5",
    "[",
    "]",
    "**",
    "# ",
    "cat",
    "é",
    "🐈",
    "Step",
    " of ",
    "-",
    " ",
    "   ",
    "\t",
    "\n",
    "\r\n",
    "\r",
    "\u2028",
]
pieces = st.sampled_from([*MARKS, *OTHERS, "x" * 70])


@settings(deadline=None)
@given(st.lists(pieces | st.text(max_size=4), max_size=30).map("".join), st.data())
@example("Step 1: a\r\nStep 2: b", None)
def test_chunks_make_no_difference(trace, data):
    cuts = [*range(len(trace))] if data is None else sorted(data.draw(st.lists(st.integers(0, len(trace)))))
    chunks = [trace[start:end] for start, end in zip([0, *cuts], [*cuts, len(trace)], strict=True)]

    assert "".join(chunks) == trace
    assert read(chunks) == steps_of(trace)


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30), max_size=6))
def test_numbered_steps_come_back_as_they_were_written(texts):
    lines = [" ".join(text.replace("\r", " ").replace("\n", " ").split()) or "x" for text in texts]

    trace = "".join(f"Step {number}: {line}\n" for number, line in enumerate(lines, start=1)) + "Label: [0]"

    assert steps_of(trace) == lines


@pytest.mark.parametrize("completing", ["\nStep 2:", "\nLabel:", "\n[0]\n"])
def test_a_step_is_emitted_with_the_last_character_of_the_marker_that_completes_it(completing):
    parser = StepParser()

    assert parser.feed("Step 1: look" + completing[:-1]) == []
    assert parser.feed(completing[-1]) == ["look"]
    assert parser.close() == []


def test_a_closed_parser_reads_no_more():
    parser = StepParser()
    parser.feed("Step 1: a")

    assert parser.close() == ["a"]
    assert parser.close() == []
    with pytest.raises(ValueError, match="closed"):
        parser.feed("Step 2: b")


def test_a_long_trace_in_single_characters_takes_time_in_proportion_to_its_length():
    trace = "Step 1: " + "word " * 40_000

    assert read([*trace]) == [trace[8:].strip()]
