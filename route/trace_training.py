"""Training a trace-aware router once its model was asked: the scorer p̂, the setting ψ by replay, and the baselines."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from annotate.services.runs import items_to_annotate
from route.models import Router, RouterQuery
from route.replay import Replay, choose_setting, replay, routing_metrics, stopping_step
from route.risk import DisagreementScorer, LogisticScorer
from route.trace_baselines import baseline_escalations, within_budget
from route.trace_data import (
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
from route.trace_queries import RISKS, Variant, annotator_of, variants_of
from route.trained import Trained
from route.training import features_of

_BLOCK = 5_000  # items scored at a time
ROUTER_NAME = "Trace-aware router"


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


def train_trace(router: Router, between: Callable[[], object]) -> tuple[Trained, bytes]:
    """The scorer with all figures, and the scores of the items that are left. Raises ValueError or Refusal."""
    known = known_traces(router)
    risk_ids, risk_errors = known.of(RISK)
    risk_features = features_of(router, risk_ids, between)
    scorer = DisagreementScorer(random_state=router.seed).fit(risk_features, risk_errors)
    logistic = LogisticScorer().fit(risk_features, risk_errors)
    between()
    dev = _Development(router, known, between)
    features = features_of(router, dev.item_ids, between)
    replays = [dev.replayed(setting) for setting in settings_of_router(router)]
    metrics = _metrics(router, dev, replays, scorer.predict(features), logistic.predict(features))
    metrics |= {
        "items": len(known.item_ids),
        "risk_items": len(risk_ids),
        "demo_items": len(known.item_ids) - len(risk_ids) - len(dev.item_ids),
        "dev_items": len(dev.item_ids),
        "error_share": float(known.is_error.mean()),
        "scorer": {
            "auc": scorer.auc_,
            "log_loss": scorer.log_loss_,
            "constant_log_loss": scorer.constant_log_loss_,
            "fallback": scorer.fallback_,
        },
    }
    left, scores = _scores_of_the_others(router, scorer, between)
    learned_from = (risk_features, risk_errors, *dev.arrays())
    return Trained(scorer, learned_from, metrics), with_scores(router, known, left, scores)


def _scores_of_the_others(
    router: Router, scorer: DisagreementScorer, between: Callable[[], object]
) -> tuple[list[int], FloatArray]:
    ids = items_to_annotate(router.project)
    scores = []
    for start in range(0, len(ids), _BLOCK):
        scores.append(scorer.predict(features_of(router, ids[start : start + _BLOCK], between)))
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
        self.answers = _answers(router)
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

    def at_the_end(self, variant: int) -> tuple[BoolArray, list[float | None]]:
        """What the model said once all steps were there, (n,): its decisions and the risks that it stated."""
        found = [
            self.answers.get((pk, variant, len(trace.steps)))
            for pk, trace in zip(self.item_ids, self.traces, strict=True)
        ]
        decided = np.array([answer is not None and answer.escalates for answer in found], dtype=np.bool_)
        return decided, [None if answer is None else answer.risk for answer in found]

    def full(self) -> tuple[npt.NDArray[np.intp], FloatArray]:
        """Tokens and seconds of annotating each item to the end, (n,)."""
        tokens = np.array([trace.tokens for trace in self.traces], dtype=np.intp)
        return tokens, np.array([trace.seconds for trace in self.traces])

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


def _metrics(
    router: Router, dev: _Development, replays: Sequence[Replay], p_hat: FloatArray, logistic: FloatArray
) -> dict[str, Any]:
    """Settings with their replays, the chosen one, and the table of baselines at the same ρ."""
    limit = float(router.parameters["limit"])
    settings, variants = settings_of_router(router), variants_of(router)
    rows = [
        variants[setting.variant].as_dict() | asdict(setting) | asdict(found)
        for setting, found in zip(settings, replays, strict=True)
    ]
    chosen = choose_setting(replays, limit)
    failed = RouterQuery.objects.filter(router=router, traced_run=None).exclude(failure="").count()
    return {
        "settings": rows,
        "chosen": chosen,
        "limit": limit,
        "failed_queries": failed,
        "table": _table(router, dev, None if chosen is None else settings[chosen], p_hat, logistic),
    }


def _table(
    router: Router, dev: _Development, setting: Setting | None, p_hat: FloatArray, logistic: FloatArray
) -> list[dict[str, Any]]:
    """The router and the baselines that need no further calls, on the development items."""
    limit = float(router.parameters["limit"])
    rows: list[dict[str, Any]] = []
    given: dict[str, Any] = {}
    n_escalated = 0
    if setting is not None:
        stops = dev.stops(setting)
        escalated = within_budget(stops > 0, limit, priority=p_hat)
        stops = np.where(escalated, stops, 0)
        n_escalated = int(escalated.sum())
        found = routing_metrics(dev.is_error, escalated, **dev.spent(setting, stops))
        rows.append({"name": ROUTER_NAME, "is_router": True} | asdict(found))
        decided, risks = dev.at_the_end(setting.variant)
        levels = {value: name for name, value in RISKS.items()}
        given = {
            "full_trace": decided,
            "stated_risk": [levels.get(-1.0 if risk is None else risk, "") for risk in risks],
        }
        variants = variants_of(router)
        bare = Variant(variants[setting.variant].strictness, 0, variants[setting.variant].style)
        for number, variant in enumerate(variants):
            if (variant.strictness, variant.m) == (bare.strictness, 0):
                given["trace_only"] = dev.stops(Setting(number, setting.interval)) > 0
        if variants[setting.variant].m:
            given["trace_and_retrieval"] = dev.stops(setting) > 0
    baselines = baseline_escalations(
        limit,
        p_hat,
        n_escalated=n_escalated,
        rng=np.random.default_rng([router.seed, 17]),
        logistic=logistic,
        **given,
    )
    for name, escalated in baselines.items():
        rows.append({"name": name} | asdict(routing_metrics(dev.is_error, escalated)))
    return rows
