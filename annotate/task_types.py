"""The kinds of labelling task a project can have."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class TaskType:
    """What an item of a task consists of, what an answer to it is, and which labels a new project starts with.

    `answers` is "label" where one of a set of labels is chosen, "text" where the answer is written, "span" where it is
    a part of the item's text or that there is none. A written answer is rated as a whole, or with `checks_facts`
    statement by statement; of a span, as of a label, a criticizer says how likely it is wrong.
    """

    key: str
    label: str
    description: str
    needs_text: bool
    needs_image: bool
    needs_question: bool
    default_labels: tuple[str, ...] = ()
    answers: str = "label"
    checks_facts: bool = False

    @property
    def is_written(self) -> bool:
        """Whether answers are words, not one of a set of labels: then the project has no label set."""
        return self.answers != "label"

    @property
    def is_span(self) -> bool:
        """Whether an answer is a span of the item's text, which a known answer can show to be wrong."""
        return self.answers == "span"

    @property
    def is_checkable(self) -> bool:
        """Whether what is known of an item can show an answer to be right or wrong: not where answers are composed."""
        return self.answers != "text"

    @property
    def answer_noun(self) -> str:
        """What pages call what is said of an item: one has a label, or it has an answer."""
        return "answer" if self.is_written else "label"

    @property
    def is_rated(self) -> bool:
        """Whether a criticizer gives an answer a quality score, instead of an error probability."""
        return self.answers == "text" and not self.checks_facts


_ALL = (
    TaskType(
        key="image_classification",
        label="Image classification",
        description="Each item is an image; the label says what it shows.",
        needs_text=False,
        needs_image=True,
        needs_question=False,
    ),
    TaskType(
        key="text_classification",
        label="Text classification",
        description="Each item is a text; the label says what kind of text it is.",
        needs_text=True,
        needs_image=False,
        needs_question=False,
    ),
    TaskType(
        key="closed_vqa",
        label="Closed visual question answering",
        description="Each item is an image with a question; the label is the answer, from a fixed list.",
        needs_text=False,
        needs_image=True,
        needs_question=True,
        default_labels=("no", "yes"),
    ),
    TaskType(
        key="image_text_agreement",
        label="Image–text agreement",
        description="Each item is an image with a caption; the label says whether the caption fits.",
        needs_text=True,
        needs_image=True,
        needs_question=False,
        default_labels=("no", "yes"),
    ),
    TaskType(
        key="rated_answer",
        label="Written answer, rated",
        description="Each item is a text; a model writes what your guidelines ask for, and another rates it.",
        needs_text=True,
        needs_image=False,
        needs_question=False,
        answers="text",
    ),
    TaskType(
        key="written_facts",
        label="Long answer, checked fact by fact",
        description="Each item is a text; a model writes a summary or a report of it, and another checks each fact.",
        needs_text=True,
        needs_image=False,
        needs_question=False,
        answers="text",
        checks_facts=True,
    ),
    TaskType(
        key="extractive_qa",
        label="Extractive question answering",
        description="Each item is a text with a question; the answer is a part of the text, or that it has none.",
        needs_text=True,
        needs_image=False,
        needs_question=True,
        answers="span",
    ),
)

TASK_TYPES: Mapping[str, TaskType] = MappingProxyType({task_type.key: task_type for task_type in _ALL})
LABEL_TASKS = tuple(task_type.key for task_type in _ALL if not task_type.is_written)
# Of those without a label set: where answers are composed, and where they are spans of the item's text.
WRITTEN_TASKS = tuple(task_type.key for task_type in _ALL if task_type.answers == "text")
SPAN_TASKS = tuple(task_type.key for task_type in _ALL if task_type.is_span)


def get_task_type(key: str) -> TaskType:
    """The task type with this key. Raises ValueError with the known keys when there is none."""
    try:
        return TASK_TYPES[key]
    except KeyError:
        raise ValueError(f"Unknown task type {key!r}; known are {', '.join(TASK_TYPES)}.") from None
