"""An error probability for each statement of a long written answer (paper, appendix G.4).

One call an answer: the criticizer is shown the source and the answer's numbered statements and gives each a
probability. The reviewer then looks at the doubtful statements and not at the whole answer again.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from annotate.parsing import read_json_object, structured_reasoning
from annotate.prompts import ItemContent
from annotate.written import check_written_choices, escape_tags, object_schema, source_part
from criticize.facts import Fact
from criticize.quality import judge_system, read_score, share_of
from mllm.messages import Request

# Stored with every criticism. A change of wording needs a new number.
FACTS_PROMPT_VERSIONS: Mapping[str, str] = MappingProxyType({"naive": "facts-naive-1", "cot": "facts-cot-1"})

# A limit of tokens: what the strategy needs, and what each fact adds.
_MAX_TOKENS: Mapping[str, tuple[int, int]] = MappingProxyType({"naive": (256, 24), "cot": (1024, 96)})
_MOST_TOKENS = 16_384

_VERDICT = re.compile(r"\[\s*([0-9]{1,6})\s*\]\s*:?\s*\[\s*([0-9.]{1,20})\s*\]")
_FENCE = re.compile(r"```[A-Za-z0-9_-]*")

_QUESTION = (
    "Somebody has written a longer answer to a text. It is cut into numbered statements. Your task is to "
    "estimate for each of them the probability that it is wrong, that is, that a careful person who compares it "
    "with the text would change or remove it, because the text says otherwise or does not say it: 0.000 if it "
    "is certainly right, 1.000 if it is certainly wrong. Judge each statement by itself, in the light of the "
    "statements before it. Use the whole range; statements that deserve different doubts get different "
    "probabilities."
)

_ANSWER: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("naive", "bracket"): (
            "Reply with one line for each statement, in order, and nothing else: its number in square brackets, "
            "then its probability in square brackets, with three decimals. For three statements the whole reply "
            "looks like this:\n[1][0.020]\n[2][0.874]\n[3][0.310]"
        ),
        ("cot", "bracket"): (
            "Think step by step first: compare the statements with the text, in a few sentences. Then give one "
            "line for each statement, in order, and nothing after the last one: its number in square brackets, "
            "then its probability in square brackets, with three decimals. For three statements the reply ends "
            "like this:\n[1][0.020]\n[2][0.874]\n[3][0.310]"
        ),
        ("naive", "structured"): (
            'Reply with a JSON object and nothing else. Its only key, "facts", holds a list with one object for '
            'each statement, in order: the key "number" with its number and the key "error_probability" with '
            "its probability, with three decimals."
        ),
        ("cot", "structured"): (
            'Reply with a JSON object and nothing else. First the key "reasoning": think step by step and '
            'compare the statements with the text, in a few sentences. Then the key "facts": a list with one '
            'object for each statement, in order, with the key "number" for its number and the key '
            '"error_probability" for its probability, with three decimals.'
        ),
    }
)

_FACTS_SCHEMA = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"number": {"type": "integer"}, "error_probability": {"type": "number"}},
        "required": ["number", "error_probability"],
        "additionalProperties": False,
    },
}


def fact_check_request(
    *,
    strategy: str,
    answer_format: str,
    model: str,
    item: ItemContent,
    answer: str,
    facts: Sequence[Fact],
    instructions: str = "",
    max_tokens: int | None = None,
) -> Request:
    """Ask `model` how probable it is that each of the `facts` of `answer` is wrong; the first has number 1.

    Raises ValueError for an unknown strategy or answer format, an item without text, and without facts.
    """
    check_written_choices(strategy, answer_format)
    if not facts:
        raise ValueError("There is no statement to check.")
    base, for_each = _MAX_TOKENS[strategy]
    schema = object_schema(strategy, facts=_FACTS_SCHEMA)
    return Request(
        model=model,
        system=judge_system(_QUESTION, _ANSWER[strategy, answer_format], instructions),
        parts=(source_part("written_facts", item), numbered_facts(answer, facts)),
        max_tokens=min(base + for_each * len(facts), _MOST_TOKENS) if max_tokens is None else max_tokens,
        schema=schema if answer_format == "structured" else None,
    )


def numbered_facts(answer: str, facts: Sequence[Fact]) -> str:
    """The statements, each between tags that say its number and cannot occur inside it."""
    statements = (
        f'<fact number="{number}">{escape_tags(answer[start:end])}</fact>'
        for number, (start, end) in enumerate(facts, start=1)
    )
    return "\n".join(["<answer>", *statements, "</answer>"])


def read_fact_checks(reply_text: str, answer_format: str, n_facts: int) -> tuple[list[float] | None, str]:
    """Error probability of each of the `n_facts` statements, in order, and the reasoning.

    None where the reply does not give every statement, by its number, exactly one probability in [0, 1]: a missing,
    doubled or unknown one leaves open which statements the others mean.
    """
    if answer_format == "structured":
        found = read_json_object(reply_text)
        if found is None:
            return None, reply_text.strip()
        return _in_order(_structured_verdicts(found.get("facts")), n_facts), structured_reasoning(found)
    verdicts, reasoning = _verdict_lines(reply_text)
    error_probs = _in_order(verdicts, n_facts)
    return error_probs, reply_text.strip() if error_probs is None else reasoning


def _in_order(verdicts: Iterable[tuple[object, float | None]] | None, n_facts: int) -> list[float] | None:
    given: dict[object, float] = {}
    for number, error_prob in verdicts or ():
        if isinstance(number, bool) or not isinstance(number, int) or number in given or error_prob is None:
            return None
        given[number] = error_prob
    if not n_facts or set(given) != set(range(1, n_facts + 1)):
        return None
    return [given[number] for number in range(1, n_facts + 1)]


def _structured_verdicts(facts: object) -> list[tuple[object, float | None]] | None:
    if not isinstance(facts, list) or not all(isinstance(fact, dict) for fact in facts):
        return None
    return [(fact.get("number"), share_of(fact.get("error_probability"))) for fact in facts]


def _verdict_lines(text: str) -> tuple[list[tuple[object, float | None]], str]:
    """The verdicts that end the reply, one a line or several, and what stands before them.

    Lines are read from the last one upwards, as far as they hold verdicts and nothing else, so that nothing that the
    reasoning quotes is taken for one.
    """
    lines = text.strip().splitlines()
    verdicts: list[tuple[object, float | None]] = []
    while lines:
        line = lines[-1].strip()
        found = [(int(match.group(1)), read_score(match.group(2))) for match in _VERDICT.finditer(line)]
        rest = _VERDICT.sub("", line).strip(" \t,;-*•")
        if (rest or not found) and line and not _FENCE.fullmatch(line):
            break
        verdicts = [*found, *verdicts]
        lines.pop()
    return verdicts, "\n".join(lines).strip()


def stored_facts(facts: Sequence[Fact], error_probs: Sequence[float]) -> list[dict[str, float]]:
    """The statements as a criticism keeps them: where each is in the answer, in characters, and its ε̂."""
    return [
        {"start": start, "end": end, "error_prob": error_prob}
        for (start, end), error_prob in zip(facts, error_probs, strict=True)
    ]


def most_doubtful(error_probs: Sequence[float]) -> float:
    """ε̂ of the whole answer: that of its most doubtful statement.

    An answer is wrong if any statement is. Were the statements independent, that would have probability
    1 − Π(1 − ε̂ₖ); but those of one text stand and fall together (who misread the source misread it in several
    sentences), and the product would send every long answer to a person. The largest ε̂ is what is certain: the
    answer is at least as likely wrong as its worst statement.
    """
    return max(error_probs)
