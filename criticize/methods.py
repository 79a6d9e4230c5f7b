"""For each criticizer strategy, in one place: what is asked, and how the reply is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from annotate.task_types import TaskType, get_task_type
from criticize import logprobs
from criticize.metrics import perplexity_priority
from criticize.parsing import (
    LEVELS,
    Verdict,
    parse_error_probability,
    parse_level,
    parse_structured_criticism,
    parse_structured_level,
    parse_structured_verdict,
    parse_verdict,
)
from criticize.prompts import LEVEL_NAMES, Question, criticism_request
from criticize.span_prompts import SPAN_PROMPT_VERSIONS, span_criticism_request
from mllm.messages import Reply, Request

NO_PROBABILITY = "The answer holds no probability between 0 and 1."
NO_LEVEL = "The answer holds no level from 1 to 5."
NO_VERDICT = "The answer says neither yes nor no."


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reply says.

    `priority` orders annotations, higher is more suspicious; `error_prob`, in [0, 1], is None where there is only an
    order. Both are None where the reply cannot be read, and `problem` is the sentence that says why. `answer_token` is
    the number of the token that answered, where the reading rests on its probability.
    """

    reasoning: str = ""
    error_prob: float | None = None
    priority: float | None = None
    problem: str = ""
    answer_token: int | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """A strategy at work. `version` is stored with every criticism: a change of wording needs a new number.

    `ask` raises ValueError, with a sentence, for what cannot be asked about. `read` takes the reply and its answer
    format; whatever the reply holds, it gives a reading.
    """

    version: str
    ask: Callable[[Question], Request]
    read: Callable[[Reply, str], Reading]


def read_probability(reply: Reply, answer_format: str) -> Reading:
    """A stated error probability."""
    parse = parse_structured_criticism if answer_format == "structured" else parse_error_probability
    error_prob, reasoning = parse(reply.text)
    if error_prob is None:
        return Reading(reasoning, problem=NO_PROBABILITY)
    return Reading(reasoning, error_prob, priority=error_prob)


def read_level(reply: Reply, answer_format: str) -> Reading:
    """A level of doubt: the priority is the level, from 1 to 5."""
    parse = parse_structured_level if answer_format == "structured" else parse_level
    level, reasoning = parse(reply.text)
    if level is None:
        return Reading(reasoning, problem=NO_LEVEL)
    return Reading(reasoning, priority=float(level))


def read_answer_probability(reply: Reply, answer_format: str) -> Reading:
    """Eq. 6 at the token that says yes or no."""
    verdict = _verdict(reply, answer_format)
    if verdict is None:
        return Reading(problem=NO_VERDICT)
    try:
        answer_token = logprobs.align(reply.logprobs, reply.text).token_at(verdict.at)
        error_prob = logprobs.yes_share(reply.logprobs[answer_token])
    except ValueError as error:
        return Reading(verdict.reasoning, problem=str(error))
    return Reading(verdict.reasoning, error_prob, priority=error_prob, answer_token=answer_token)


def read_perplexity(reply: Reply, answer_format: str) -> Reading:
    """Eq. 7 by the yes or no and the perplexity of the reasoning before it.

    The priority is 1/perplexity for yes and −1/perplexity for no. Where the answer's text has no reasoning, that of a
    separate channel counts, if its log-probabilities came too.
    """
    verdict = _verdict(reply, answer_format)
    if verdict is None:
        return Reading(problem=NO_VERDICT)
    try:
        if not reply.logprobs:
            raise ValueError(logprobs.NO_LOGPROBS)
        if verdict.reasoning or not reply.reasoning.strip():
            tokens = logprobs.align(reply.logprobs, reply.text).tokens_within(verdict.start, verdict.end)
        else:
            thought = reply.reasoning.strip()
            tokens = logprobs.align(reply.logprobs, thought).tokens_within(0, len(thought))
        perplexity = logprobs.perplexity(tokens)
    except ValueError as error:
        return Reading(verdict.reasoning, problem=str(error))
    priority = perplexity_priority([verdict.says_wrong], [perplexity])
    return Reading(verdict.reasoning, priority=float(priority[0]))


def _verdict(reply: Reply, answer_format: str) -> Verdict | None:
    parse = parse_structured_verdict if answer_format == "structured" else parse_verdict
    return parse(reply.text)


def ask(question: Question) -> Request:
    """About a label, or where answers are spans about the answer."""
    is_span = get_task_type(question.task_type).is_span
    return span_criticism_request(question) if is_span else criticism_request(question)


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "cot": Method("criticize-cot-1", ask, read_probability),
        "naive": Method("criticize-naive-1", ask, read_probability),
        "mc": Method("criticize-mc-1", ask, read_level),
        "devil": Method("criticize-devil-1", ask, read_probability),
        "naive_logit": Method("criticize-naive-logit-1", ask, read_answer_probability),
        "cot_logit": Method("criticize-cot-logit-1", ask, read_answer_probability),
        "cot_ppl": Method("criticize-cot-ppl-1", ask, read_perplexity),
    }
)

PROMPT_VERSIONS: Mapping[str, str] = MappingProxyType(
    {name: method.version for name, method in METHODS.items()}
)


def prompt_versions(task: TaskType) -> Mapping[str, str]:
    """Version by strategy of what is asked about labels, or about answers that are spans."""
    return SPAN_PROMPT_VERSIONS if task.is_span else PROMPT_VERSIONS


@dataclass(frozen=True, slots=True)
class Rank:
    """What a priority that only orders stands for: the answer in words, and the perplexity it rests on, if any."""

    answer: str
    perplexity: float | None = None


# The answers of strategies that only order, most suspicious first.
RANK_ANSWERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "mc": tuple(LEVEL_NAMES[level] for level in reversed(LEVELS)),
        "cot_ppl": ("yes, it is wrong", "no, it is right"),
    }
)


def rank_of(strategy: str, priority: float | None) -> Rank | None:
    """The answer that gave a priority; None where there is none, or where the strategy gives more than an order."""
    if priority is None or strategy not in RANK_ANSWERS:
        return None
    if strategy == "mc":
        return Rank(LEVEL_NAMES[round(priority)])
    return Rank(RANK_ANSWERS[strategy][priority < 0], perplexity=1 / abs(priority))
