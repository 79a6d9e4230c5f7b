"""Training a trace-aware router once its model was asked: the scorer p̂, the setting ψ by replay, and the baselines."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from annotate.contents import items_in_order
from annotate.models import VectorVersion
from annotate.services.runs import items_to_annotate
from annotate.vectors import written_text
from route.models import Router, RouterQuery
from route.replay import Replay, choose_setting, replay, routing_metrics, stopping_step
from route.retrieval import Demonstrations
from route.risk import DisagreementScorer, LogisticScorer
from route.router_vectors import vector_choice
from route.splits import risk_demo_dev, shift_between, topics_held_out
from route.trace_baselines import BASELINES, baseline_escalations, within_budget
from route.trace_data import (
    DEMO,
    DEV,
    RISK,
    BoolArray,
    FloatArray,
    KnownTraces,
    Trace,
    known_traces,
    traces_of,
    with_scores,
)
from route.trace_features import ItemFeatures
from route.trace_queries import RISKS, annotator_of, is_often_unread, variants_of
from route.trained import Trained

_BLOCK = 5_000  # items scored at a time
ROUTER_NAME = "Trace-aware router"
_NEAREST = 4  # demonstrations that an item is compared with
_SAME = 1e-9


@dataclass(frozen=True, slots=True)
class Asked:
    """What the model said about one prefix; a failure counts as going on."""

    escalates: bool
    risk: float | None
    tokens: int
    seconds: float


Answers = Mapping[tuple[int, int, int], Asked]  # by item, variant, step


@dataclass(frozen=True, slots=True)
class Setting:
    """ψ: a variant and the interval Δ at which it is asked."""

    variant: int
    interval: int


def settings_of_router(router: Router) -> list[Setting]:
    """All settings that are tried, in the order of `metrics["settings"]`."""
    intervals = router.parameters["intervals"]
    return [
        Setting(variant, interval) for variant in range(len(variants_of(router))) for interval in intervals
    ]


def setting_for(router: Router, limit: float) -> Setting | None:
    """The best setting of a trained router that keeps to ρ, None where none does."""
    rows = router.metrics["settings"]
    replays = [Replay(row["missed_errors"], row["escalation_rate"], row["effort"]) for row in rows]
    chosen = choose_setting(replays, limit)
    return None if chosen is None else Setting(rows[chosen]["variant"], rows[chosen]["interval"])


@dataclass(frozen=True, slots=True)
class Similarity:
    """How similar the text of each development item is to its image, or the item to demonstrations, (n,).

    `note` says which; where `values` is None, why there are none.
    """

    values: FloatArray | None
    note: str


@dataclass(frozen=True, slots=True)
class Scored:
    """What is known of the development items without asking a model, (n,) each."""

    p_hat: FloatArray
    logistic: FloatArray
    similarity: Similarity


def similarity_rule(known: KnownTraces, item_ids: Sequence[int], features: ItemFeatures) -> Similarity:
    """The similarity of text and image where it says something, else that to the nearest demonstrations."""
    vectors = features.vectors(item_ids)
    found = features.similarity_of(vectors)
    if found is not None:
        return Similarity(found, "Items whose text and image go together least.")
    pool, errors = known.of(DEMO)
    nearness = Demonstrations(features.vectors(pool), errors).nearness(vectors, _NEAREST)
    if np.ptp(nearness) < _SAME:
        return Similarity(
            None, "All items are equally similar to the demonstrations, so it tells nothing apart."
        )
    note = f"Items least similar to the {min(_NEAREST, len(pool))} nearest demonstrations."
    if features.similarity is not None and features.similarity.fallback_:
        note += f" {features.similarity.fallback_}"
    return Similarity(nearness, note)


def shift_of(router: Router, known: KnownTraces, features: ItemFeatures) -> dict[str, Any]:
    """How far the development items lie from the others, and how far they do in a split at random."""
    ids = known.item_ids.tolist()
    vectors = features.vectors(ids)
    texts = {item.pk: written_text(item) for item in items_in_order(ids)}
    errors = known.is_error
    at_random = risk_demo_dev(errors, seed=router.seed)
    try:
        _, topics = topics_held_out(vectors, errors, seed=router.seed)
        of_items: npt.NDArray[np.intp] | None = topics.topics
    except ValueError:  # too few items, or all alike: there are no topics to count
        of_items = None

    def measured(is_dev: BoolArray) -> dict[str, Any]:
        found = asdict(
            shift_between(
                vectors[~is_dev],
                vectors[is_dev],
                seed=router.seed,
                topics=None if of_items is None else (of_items[~is_dev], of_items[is_dev]),
                texts=(
                    [texts[ids[place]] for place in np.flatnonzero(~is_dev)],
                    [texts[ids[place]] for place in np.flatnonzero(is_dev)],
                ),
            )
        )
        if vector_choice(router).kind == VectorVersion.Kind.PLAIN:
            # They are centered: what one part's mean lacks the other's has, so that they point apart in any split.
            found["centroid_distance"] = None
        return found

    return {
        "split": router.parameters.get("split", "random"),
        "topics": None if of_items is None else int(of_items.max()) + 1,
        "measures": measured(known.use == DEV),
        "at_random": measured(np.isin(np.arange(len(ids)), at_random.dev)),
    }


def train_trace(router: Router, between: Callable[[], object]) -> tuple[Trained, bytes]:
    """The scorer with all figures, and the scores of the items that are left. Raises ValueError or Refusal."""
    known = known_traces(router)
    features = ItemFeatures(router, known, between)
    risk_ids, risk_errors = known.of(RISK)
    risk_features = features.of(risk_ids)
    scorer = DisagreementScorer(random_state=router.seed).fit(risk_features, risk_errors)
    logistic = LogisticScorer().fit(risk_features, risk_errors)
    between()
    dev = _Development(router, known, between)
    dev_features = features.of(dev.item_ids)
    replays = [dev.replayed(setting) for setting in settings_of_router(router)]
    scored = Scored(
        scorer.predict(dev_features),
        logistic.predict(dev_features),
        similarity_rule(known, dev.item_ids, features),
    )
    metrics = _metrics(router, dev, replays, scored)
    between()
    metrics |= {
        "items": len(known.item_ids),
        "risk_items": len(risk_ids),
        "demo_items": len(known.item_ids) - len(risk_ids) - len(dev.item_ids),
        "dev_items": len(dev.item_ids),
        "error_share": float(known.is_error.mean()),
        "dev_error_share": float(dev.is_error.mean()),
        "features": features.about(),
        "shift": shift_of(router, known, features),
        "scorer": {
            "auc": scorer.auc_,
            "log_loss": scorer.log_loss_,
            "constant_log_loss": scorer.constant_log_loss_,
            "fallback": scorer.fallback_,
        },
    }
    left, scores = _scores_of_the_others(router, scorer, features, between)
    learned_from = (risk_features, risk_errors, *dev.arrays())
    return Trained(scorer, learned_from, metrics), with_scores(router, known, left, scores)


def _scores_of_the_others(
    router: Router, scorer: DisagreementScorer, features: ItemFeatures, between: Callable[[], object]
) -> tuple[list[int], FloatArray]:
    ids = items_to_annotate(router.project)
    scores = []
    for start in range(0, len(ids), _BLOCK):
        scores.append(scorer.predict(features.of(ids[start : start + _BLOCK])))
        between()
    return ids, np.concatenate(scores) if scores else np.zeros(0)


class _Development:
    """The logged traces of the development items and what the router's model said about each of their prefixes."""

    def __init__(self, router: Router, known: KnownTraces, between: Callable[[], object]) -> None:
        ids, errors = known.of(DEV)
        traces = traces_of(annotator_of(router), ids)
        between()
        kept = [place for place, pk in enumerate(ids) if pk in traces]
        self.item_ids = [ids[place] for place in kept]
        self.is_error: BoolArray = errors[kept]
        self.traces: list[Trace] = [traces[pk] for pk in self.item_ids]
        said = _answers(router)
        self.answers = {key: answer for key, answer in said.items() if key[2]}
        self.without_trace = {
            key[:2]: answer for key, answer in said.items() if not key[2]
        }  # by item and variant
        if not self.item_ids:
            raise ValueError("The traces of the development items are gone. Train a new router.")
        if not self.answers:
            raise ValueError("The router's model gave no readable answer, so there is nothing to choose by.")
        self.n_steps = np.array([len(trace.steps) for trace in self.traces], dtype=np.intp)

    def stops(self, setting: Setting) -> npt.NDArray[np.intp]:
        """τ of each item, (n,), 0 where it is not escalated."""
        return np.array(
            [
                stopping_step(
                    [self._said(pk, setting.variant, step) for step in range(1, len(trace.steps) + 1)],
                    setting.interval,
                )
                for pk, trace in zip(self.item_ids, self.traces, strict=True)
            ],
            dtype=np.intp,
        )

    def replayed(self, setting: Setting) -> Replay:
        return replay(self.is_error, self.stops(setting), self.n_steps)

    def _said(self, item_id: int, variant: int, step: int) -> bool:
        answer = self.answers.get((item_id, variant, step))
        return answer is not None and answer.escalates

    def at_the_end(self, variant: int) -> list[Asked | None]:
        """What the model said once all steps were there, (n,)."""
        return [
            self.answers.get((pk, variant, len(trace.steps)))
            for pk, trace in zip(self.item_ids, self.traces, strict=True)
        ]

    def unseen(self, variant: int) -> list[Asked | None]:
        """What the model said before there was any step, (n,)."""
        return [self.without_trace.get((pk, variant)) for pk in self.item_ids]

    def full(self) -> tuple[npt.NDArray[np.intp], FloatArray]:
        """Tokens and seconds of annotating each item to the end, (n,)."""
        tokens = np.array([trace.tokens for trace in self.traces], dtype=np.intp)
        return tokens, np.array([trace.seconds for trace in self.traces])

    def spent_once(
        self, escalated: BoolArray, *, at_the_end: bool, asked: Sequence[Asked | None] = ()
    ) -> dict[str, npt.NDArray[Any]]:
        """What it takes to decide once, before anything is written or at the end, as `routing_metrics` takes it."""
        tokens, seconds = self.full()
        written = np.ones(len(tokens), dtype=np.intp) if at_the_end else (~escalated).astype(np.intp)
        said = asked or [None] * len(tokens)
        return {
            "judge_tokens": tokens * written,
            "full_tokens": tokens,
            "router_tokens": np.array([0 if each is None else each.tokens for each in said], dtype=np.intp),
            "seconds": seconds * written + np.array([0.0 if each is None else each.seconds for each in said]),
            "full_seconds": seconds,
        }

    def spent(self, setting: Setting, stops: npt.NDArray[np.intp]) -> dict[str, npt.NDArray[Any]]:
        """What routing takes by this setting, as `routing_metrics` takes it. Tokens of stopped streams are estimates:
        the share of the text that was written."""
        shares = np.array(
            [trace.share_read(int(stop)) for trace, stop in zip(self.traces, stops, strict=True)]
        )
        tokens, seconds = self.full()
        router_tokens, router_seconds = np.zeros(len(stops), dtype=np.intp), np.zeros(len(stops))
        for place, (pk, trace, stop) in enumerate(zip(self.item_ids, self.traces, stops, strict=True)):
            last = int(stop) or len(trace.steps)
            for step in range(1, last + 1):
                if step % setting.interval and step != len(trace.steps):
                    continue
                answer = self.answers.get((pk, setting.variant, step))
                if answer is not None:
                    router_tokens[place] += answer.tokens
                    router_seconds[place] += answer.seconds
        return {
            "judge_tokens": np.rint(tokens * shares).astype(np.intp),
            "full_tokens": tokens,
            "router_tokens": router_tokens,
            "is_estimated": stops > 0,
            "seconds": seconds * shares + router_seconds,
            "full_seconds": seconds,
        }

    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        """What the setting was chosen by."""
        said = sorted((*key, int(answer.escalates)) for key, answer in self.answers.items())
        return np.array(self.item_ids, dtype=np.int64), self.is_error, np.array(said, dtype=np.int64)


def _answers(router: Router) -> Answers:
    rows = RouterQuery.objects.filter(router=router, traced_run=None, failure="")
    fields = ("item_id", "variant", "step", "escalates", "risk", "input_tokens", "output_tokens", "latency")
    return {
        (item_id, variant, step): Asked(bool(escalates), risk, tokens_in + tokens_out, seconds)
        for item_id, variant, step, escalates, risk, tokens_in, tokens_out, seconds in rows.values_list(
            *fields
        ).iterator(chunk_size=10_000)
    }


def _metrics(router: Router, dev: _Development, replays: Sequence[Replay], scored: Scored) -> dict[str, Any]:
    """Settings with their replays, the chosen one, and the table of baselines at the same ρ."""
    limit = float(router.parameters["limit"])
    settings, variants = settings_of_router(router), variants_of(router)
    rows = [
        variants[setting.variant].as_dict() | asdict(setting) | asdict(found)
        for setting, found in zip(settings, replays, strict=True)
    ]
    chosen = choose_setting(replays, limit)
    queries = RouterQuery.objects.filter(router=router, traced_run=None)
    failed, asked = queries.exclude(failure="").count(), queries.count()
    return {
        "settings": rows,
        "chosen": chosen,
        "limit": limit,
        "queries": asked,
        "failed_queries": failed,
        "notes": _notes(router, dev, replays, chosen, unread=failed, asked=asked),
        "table": _table(router, dev, None if chosen is None else settings[chosen], scored),
    }


def _notes(
    router: Router,
    dev: _Development,
    replays: Sequence[Replay],
    chosen: int | None,
    *,
    unread: int,
    asked: int,
) -> list[str]:
    """What is wrong with the router's model, in sentences: it stops nobody, finds no error, or cannot be read."""
    model, n, wrong = router.parameters["model"], len(dev.item_ids), int(dev.is_error.sum())
    notes = []
    if chosen is not None and not replays[chosen].escalation_rate:
        others = "in none of the settings that were tried"
        if any(each.escalation_rate for each in replays):
            others = "while every setting that stops anybody stops more than the limit allows, or nobody who is wrong"
        notes.append(
            f"The router stops nobody: with the chosen setting {model} lets the annotator go on with all {n:,} "
            f"development items, {wrong:,} of which it gets wrong, {others}. Choose another model for the router."
        )
    elif chosen is not None and wrong and replays[chosen].missed_errors * n > wrong - 0.5:
        notes.append(
            f"The router finds no error: whom it stops is right, and the {wrong:,} development items that the "
            "annotator gets wrong pass. Choose another model for the router."
        )
    if is_often_unread(unread, asked):
        notes.append(
            f"{unread:,} of {asked:,} questions to {model} have no answer that can be read ({unread / asked:.0%}). "
            "They count as going on, so that errors pass."
        )
    return notes


def _table(
    router: Router, dev: _Development, setting: Setting | None, scored: Scored
) -> list[dict[str, Any]]:
    """The router and all baselines on the development items; a row without figures says in `why` what it lacks."""
    limit = float(router.parameters["limit"])
    rows: list[dict[str, Any]] = []
    stops = {} if setting is None else _stops_by_name(router, dev, setting)
    n_escalated = 0
    asked: dict[str, list[Asked | None]] = {}
    if setting is not None:
        stopped = np.where(
            within_budget(stops[ROUTER_NAME] > 0, limit, priority=scored.p_hat), stops[ROUTER_NAME], 0
        )
        n_escalated = int((stopped > 0).sum())
        found = routing_metrics(dev.is_error, stopped > 0, **dev.spent(setting, stopped))
        rows.append({"name": ROUTER_NAME, "is_router": True} | asdict(found))
        asked = {"one-shot on the full trace": dev.at_the_end(setting.variant)}
        asked["model-stated risk"] = asked["one-shot on the full trace"]
        if any(dev.unseen(setting.variant)):
            asked["no trace"] = dev.unseen(setting.variant)
    baselines = baseline_escalations(
        limit,
        scored.p_hat,
        n_escalated=n_escalated,
        rng=np.random.default_rng([router.seed, 17]),
        full_trace=_decided(asked.get("one-shot on the full trace")),
        no_trace=_decided(asked.get("no trace")),
        trace_only=stops["trace only"] > 0 if "trace only" in stops else None,
        trace_and_retrieval=stops["trace + retrieval"] > 0 if "trace + retrieval" in stops else None,
        similarity=scored.similarity.values,
        logistic=scored.logistic,
        stated_risk=_levels(asked.get("model-stated risk")),
    )
    for name in BASELINES:
        if name not in baselines:
            rows.append({"name": name, "why": _why_empty(router, name, setting, scored)})
            continue
        escalated = baselines[name]
        if name in stops and setting is not None:
            variant = _bare_variant(router, setting) if name == "trace only" else setting.variant
            spent = dev.spent(Setting(variant or 0, setting.interval), np.where(escalated, stops[name], 0))
        else:
            at_the_end = name in ("one-shot on the full trace", "model-stated risk")
            spent = dev.spent_once(escalated, at_the_end=at_the_end, asked=asked.get(name, ()))
        row = {"name": name} | asdict(routing_metrics(dev.is_error, escalated, **spent))
        rows.append(row | ({"note": scored.similarity.note} if name == "similarity rule" else {}))
    return rows


def _stops_by_name(router: Router, dev: _Development, setting: Setting) -> dict[str, npt.NDArray[np.intp]]:
    found = {ROUTER_NAME: dev.stops(setting)}
    bare = _bare_variant(router, setting)
    if bare is not None:
        found["trace only"] = dev.stops(Setting(bare, setting.interval))
    if variants_of(router)[setting.variant].m:
        found["trace + retrieval"] = found[ROUTER_NAME]
    return found


def _bare_variant(router: Router, setting: Setting) -> int | None:
    """The variant with the setting's wording and no demonstrations, where it was tried."""
    variants = variants_of(router)
    wording = variants[setting.variant].strictness
    same = (place for place, each in enumerate(variants) if (each.strictness, each.m) == (wording, 0))
    return next(same, None)


def _decided(asked: Sequence[Asked | None] | None) -> list[bool] | None:
    return None if asked is None else [each is not None and each.escalates for each in asked]


def _levels(asked: Sequence[Asked | None] | None) -> list[str] | None:
    names = {value: name for name, value in RISKS.items()}
    if asked is None:
        return None
    return ["" if each is None or each.risk is None else names.get(each.risk, "") for each in asked]


def _why_empty(router: Router, name: str, setting: Setting | None, scored: Scored) -> str:
    if name == "similarity rule":
        return scored.similarity.note
    if setting is None:
        return "No setting keeps to the limit, so there is no wording to ask in."
    return {
        "no trace": "Not asked: that was not chosen, or the model gave no readable answer.",
        "trace only": "The chosen wording was not tried without demonstrations.",
        "trace + retrieval": "The chosen setting shows no demonstrations.",
    }[name]
