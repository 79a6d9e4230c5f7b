"""What a prompted criticizer is asked (paper, section 4.2.1, table 1 and appendix C; the wording is ours).

As in `annotate.prompts`, what is the same for every item comes first, then the label in question, then the
item.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from annotate.prompts import (
    DATA_NOTICE,
    ItemContent,
    LabelSpec,
    answer_schema,
    check_choices,
    check_labels,
    guidelines_section,
    item_parts,
    label_line,
    labels_section,
)
from criticize.parsing import parse_error_probability, parse_structured_criticism
from mllm.messages import Request

# Stored with every criticism. A change of wording needs a new number.
PROMPT_VERSIONS: Mapping[str, str] = MappingProxyType(
    {"naive": "criticize-naive-1", "cot": "criticize-cot-1"}
)

_MAX_TOKENS: Mapping[str, int] = MappingProxyType({"naive": 256, "cot": 1024})

_TASK: Mapping[str, str] = MappingProxyType(
    {
        "image_classification": "Somebody has labelled an image.",
        "text_classification": "Somebody has labelled a text.",
        "closed_vqa": "Somebody has answered a question about an image by choosing a label.",
        "image_text_agreement": (
            "Somebody has looked at an image with a caption and has chosen the label that says whether "
            "the caption agrees with what the image shows."
        ),
    }
)

_QUESTION = (
    "The label may be right or wrong. Your task is to estimate the probability that it is wrong, that is, "
    "that a careful person would choose another label from the list: 0.000 if it is certainly right, "
    "1.000 if it is certainly wrong. Use the whole range; labels that deserve different doubts get "
    "different probabilities."
)

_ANSWER: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("naive", "bracket"): (
            "Answer with the probability in square brackets, with three decimals, and nothing else. "
            "The whole answer looks like this: [0.374]"
        ),
        ("cot", "bracket"): (
            "Think step by step. Then answer with two bracketed groups and nothing else: first your "
            "reasoning, in a few sentences, then the probability, with three decimals. The answer has the "
            "form: [your reasoning][0.374]"
        ),
        ("naive", "structured"): (
            'Answer with a JSON object and nothing else. Its only key, "error_probability", holds the '
            "probability with three decimals."
        ),
        ("cot", "structured"): (
            'Answer with a JSON object and nothing else. First the key "reasoning": think step by step '
            'and give your reasoning in a few sentences. Then the key "error_probability": the '
            "probability, with three decimals."
        ),
    }
)


def criticism_request(
    *,
    task_type: str,
    strategy: str,
    answer_format: str,
    model: str,
    labels: Sequence[LabelSpec],
    label: LabelSpec,
    item: ItemContent,
    instructions: str = "",
    max_tokens: int | None = None,
) -> Request:
    """Ask `model` how probable it is that `label`, one of `labels` by its name, is wrong for `item`.

    The criticizer sees the item, the label and the label list, and nothing of how the label came about.
    Raises ValueError as `annotate.prompts.annotation_request` does, and when `label` is none of `labels`.
    """
    check_choices(task_type, strategy, answer_format)
    check_labels(labels)
    names = [known.name for known in labels]
    if label.name not in names:
        raise ValueError(f"{label.name!r} is not in the label set.")
    index = names.index(label.name)
    system = "\n\n".join(
        section
        for section in (
            f"{_TASK[task_type]} {_QUESTION}",
            _ANSWER[strategy, answer_format],
            DATA_NOTICE,
            guidelines_section(instructions),
            labels_section(labels),
        )
        if section
    )
    schema = answer_schema(strategy, "error_probability", {"type": "number"})
    return Request(
        model=model,
        system=system,
        parts=(f"Label in question: {label_line(index, labels[index])}", *item_parts(task_type, item)),
        max_tokens=_MAX_TOKENS[strategy] if max_tokens is None else max_tokens,
        schema=schema if answer_format == "structured" else None,
    )


def read_criticism(reply_text: str, answer_format: str) -> tuple[float | None, str]:
    """Error probability that a reply gives, None when it is unparseable, and the reasoning."""
    if answer_format == "structured":
        return parse_structured_criticism(reply_text)
    return parse_error_probability(reply_text)
