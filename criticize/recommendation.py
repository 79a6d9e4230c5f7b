"""Which model should annotate and which should criticize (paper, section 4.3), and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from criticize.leaderboard import Score, in_words

PREFERRED_STRATEGY = "cot"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tried annotator. `model` tells models apart: candidates with the same one are one model with two strategies.

    `strategy` is empty where there are no prompts. `can_criticize` is False for a vote, which is nobody's opinion.
    """

    score: Score
    model: str
    model_name: str
    strategy: str
    can_criticize: bool = True

    @property
    def name(self) -> str:
        return self.score.tally.name


@dataclass(frozen=True, slots=True)
class Pair:
    """A measured cell of the grid. `annotator` is the key of its tally, `criticizer` a model as candidates name it."""

    annotator: int
    annotator_name: str
    criticizer: str
    criticizer_strategy: str
    criticizer_name: str
    abs: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Who should annotate and criticize, with which strategies ("" where there are no prompts), and why.

    `criticizer` is None where nobody can. `is_established` is False where intervals overlap so that the order of the
    models may be another. `grid` says what measured pairs add; it is empty before any was measured.
    """

    annotator: Candidate
    annotator_strategy: str
    criticizer: Candidate | None
    criticizer_strategy: str
    is_self_criticism: bool
    is_established: bool
    reasons: tuple[str, ...]
    grid: str = ""


def recommend(candidates: Sequence[Candidate], pairs: Sequence[Pair] = ()) -> Recommendation | None:
    """The most accurate model annotates, the second most accurate other model criticizes, both with `cot`.

    A model is judged by its candidate with `cot` where there is one, else by its best. Where there is only one model,
    it criticizes itself. None without candidates.
    """
    models = _one_a_model(candidates)
    if not models:
        return None
    annotator = models[0]
    others = [candidate for candidate in models[1:] if candidate.can_criticize]
    criticizer = others[0] if others else (annotator if annotator.can_criticize else None)
    is_self = criticizer is annotator and bool(annotator.strategy)
    recommendation = Recommendation(
        annotator=annotator,
        annotator_strategy=_strategy(annotator),
        criticizer=criticizer,
        criticizer_strategy="" if criticizer is None else _strategy(criticizer),
        is_self_criticism=is_self,
        is_established=not any(annotator.score.overlaps(other.score) for other in models[1:]),
        reasons=(
            _begun(_why_annotator(annotator, models)),
            _begun(_why_criticizer(criticizer, annotator, others)),
            *_why_strategy(annotator, criticizer, candidates),
        ),
    )
    return replace(recommendation, grid=_grid_in_words(recommendation, pairs))


def _begun(sentence: str) -> str:
    """The sentence with a capital where it begins with an article; a model's name stays as it is written."""
    return f"The {sentence[4:]}" if sentence.startswith("the ") else sentence


def _one_a_model(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidate that each model is judged by, best first."""
    chosen: dict[str, Candidate] = {}
    ordered = sorted(candidates, key=_accuracy_order)
    for preferred in (True, False):
        for candidate in ordered:
            if (candidate.strategy == PREFERRED_STRATEGY) is preferred:
                chosen.setdefault(candidate.model, candidate)
    return sorted(chosen.values(), key=_accuracy_order)


def _accuracy_order(candidate: Candidate) -> tuple[float, bool, float, str, int]:
    score = candidate.score
    cost = score.cost_per_thousand
    return -score.accuracy, cost is None, cost or 0.0, candidate.name, score.tally.key


def _strategy(candidate: Candidate) -> str:
    return PREFERRED_STRATEGY if candidate.strategy else ""


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _range(score: Score) -> str:
    return f"{_percent(score.accuracy)}, {_percent(score.low)} to {_percent(score.high)}"


def _why_annotator(first: Candidate, models: Sequence[Candidate]) -> str:
    if len(models) == 1:
        return (
            f"{first.model_name} is the only model that was tried ({_range(first.score)} of the calibration items "
            "right). Another model beside it would show whether a better one exists."
        )
    equal = [m.model_name for m in models[1:] if m.score.accuracy == first.score.accuracy]
    if equal:
        verb = "is" if len(equal) == 1 else "are"
        return (
            f"{first.model_name} annotates: it gets {_range(first.score)} of the calibration items right. "
            f"{in_words(equal)} {verb} exactly as accurate, so that price or speed may decide."
        )
    close = [m.model_name for m in models[1:] if m.score.overlaps(first.score)]
    sentence = (
        f"{first.model_name} annotates: it gets the most calibration items right ({_range(first.score)})."
    )
    if close:
        verb = "overlaps" if len(close) == 1 else "overlap"
        noun = "interval" if len(close) == 1 else "intervals"
        return (
            f"{sentence} The {noun} of {in_words(close)} {verb} with it, so the order is not established: more "
            "calibration items would tell them apart, or take the cheaper one."
        )
    return f"{sentence} Its interval lies above those of the other models."


def _why_criticizer(criticizer: Candidate | None, annotator: Candidate, others: Sequence[Candidate]) -> str:
    if criticizer is None:
        return "Nobody is left to criticize: try a single model as a candidate, too."
    if criticizer is annotator and not annotator.strategy:
        return (
            "The trained criticizer is a classifier of another family, so it can doubt the trained annotator."
        )
    if criticizer is annotator:
        return (
            f"{annotator.model_name} also criticizes itself, since no other model was tried. A second model "
            "often finds more errors."
        )
    sentence = (
        f"{criticizer.model_name} criticizes: of the other models it is the most accurate "
        f"({_range(criticizer.score)}), and another model does not share all of the annotator's mistakes."
    )
    equal = [other.model_name for other in others[1:] if other.score.accuracy == criticizer.score.accuracy]
    if equal:
        return f"{sentence} {in_words(equal)} would do as well."
    return sentence


def _why_strategy(
    annotator: Candidate, criticizer: Candidate | None, candidates: Sequence[Candidate]
) -> list[str]:
    if not annotator.strategy and (criticizer is None or not criticizer.strategy):
        return []
    sentences = [
        "Both reason before they answer (cot): it is usually more accurate, and reviewers can read why."
        if annotator.strategy and criticizer is not None and criticizer.strategy
        else "Reason before answering (cot): it is usually more accurate, and reviewers can read why."
    ]
    if annotator.strategy and annotator.strategy != PREFERRED_STRATEGY:
        sentences.append(
            f"{annotator.model_name} was tried with {annotator.strategy} alone: try it with cot before you trust this."
        )
    better = [other for other in candidates if other.score.accuracy > annotator.score.accuracy]
    if better:
        best = min(better, key=_accuracy_order)
        sure = "" if best.score.overlaps(annotator.score) else ", and the intervals do not overlap"
        sentences.append(
            f"On your items, though, {best.name} was more accurate than {annotator.name} "
            f"({_percent(best.score.accuracy)} against {_percent(annotator.score.accuracy)}{sure})."
        )
    return sentences


def _grid_in_words(recommendation: Recommendation, pairs: Sequence[Pair]) -> str:
    """Whether the measured ABS agrees with the recommended pair, and by how much."""
    if not pairs:
        return ""
    annotator, criticizer = recommendation.annotator, recommendation.criticizer
    best = max(pairs, key=lambda pair: pair.abs)
    best_words = f"{best.criticizer_name} on the labels of {best.annotator_name} (ABS {best.abs:.3f})"
    column = [pair for pair in pairs if pair.annotator == annotator.score.tally.key]
    measured = [
        pair
        for pair in column
        if criticizer is not None
        and (pair.criticizer, pair.criticizer_strategy)
        == (criticizer.model, recommendation.criticizer_strategy)
    ]
    if not measured:
        return f"The recommended pair is not measured yet. Of the measured pairs the best is {best_words}."
    own = max(measured, key=lambda pair: pair.abs)
    if len(pairs) == 1:
        return f"The recommended pair is the only one measured so far (ABS {own.abs:.3f})."
    rival = max(column, key=lambda pair: pair.abs)
    if rival.abs <= own.abs:
        second = max((pair.abs for pair in column if pair is not own), default=None)
        lead = "" if second is None else f", {own.abs - second:.3f} ahead of the next"
        sentence = (
            f"The grid agrees: no measured criticizer finds this annotator's errors sooner "
            f"(ABS {own.abs:.3f}{lead})."
        )
    else:
        sure = (
            "but the intervals overlap, so this may be chance"
            if rival.low <= own.high
            else "and the intervals do not overlap"
        )
        sentence = (
            f"The grid does not agree: {rival.criticizer_name} finds this annotator's errors sooner (ABS "
            f"{rival.abs:.3f} against {own.abs:.3f}, {rival.abs - own.abs:.3f} more), {sure}."
        )
    if best.annotator != annotator.score.tally.key:
        sentence += f" Of all pairs the highest is {best_words}: more obvious errors are easier to find."
    return sentence
