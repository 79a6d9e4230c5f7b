"""Training a router: gather what is known, turn items into vectors, learn, measure, and save."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from django.core.files.base import ContentFile

from annotate.array_files import read_arrays, write_arrays
from annotate.vectors import make_vectors, vectors_of
from jobs.leases import Progress
from route.comparisons import Comparisons, comparisons_of
from route.deferral import Rejector
from route.deferral_report import Data
from route.deferral_report import report_of as deferral_report
from route.evidence import MIN_KNOWN, MOST_ITEMS, Evidence, evidence_of, open_items, said_of_agents
from route.meta_report import extra_costs_of, report_among
from route.meta_report import report_of as meta_report
from route.meta_several import SeveralRouter
from route.meta_training import how_of, metrics_of
from route.models import Agent, Router, router_path
from route.router_vectors import check_vectors, vector_choice, zeros_of
from route.saving import data_digest, save
from route.trained import Between, Trained
from route.uploaded_comparisons import train_uploaded, uploaded_scores

FloatArray = npt.NDArray[np.float64]

_BLOCK = 5_000  # items scored at a time


def train(router: Router, between: Between) -> tuple[Trained, bytes]:
    """The fitted router, and the scores of the project's items as `keep` takes them.

    `between` is called as its class says. Raises VectorsMissing while a provider makes vectors, CannotGoOn where that
    paused; ValueError or Refusal, with a sentence, where nothing can be learned.
    """
    check_vectors(router)
    trained = TRAINERS[router.kind](router, between)
    return trained, scores_of(router, trained, between)


def keep(router: Router, trained: Trained, scores: bytes) -> Progress:
    """Write the files and what is said about them, once."""
    router.data_digest = data_digest(*trained.learned_from)
    router.metrics = trained.metrics
    router.vectors |= zeros_of(router)
    about = {
        "name": router.name,
        "project": router.project.name,
        "parameters": router.parameters,
        "vectors": router.vectors,
        "agents": [agent.name for agent in router.agents.all()],
        "data_digest": router.data_digest,
        "metrics": trained.metrics,
    }
    file = io.BytesIO()
    save(trained.router, file, about=about)
    storage = router.file.storage
    names = {"file": router_path(router, "router")} | (
        {"scores": router_path(router, "scores")} if scores else {}
    )
    try:
        for field, name in names.items():
            content = ContentFile(file.getvalue() if field == "file" else scores)
            setattr(router, field, storage.save(name, content))
        router.save(update_fields=["file", "scores", "vectors", "metrics", "data_digest"])
    except BaseException:
        for name in names.values():
            storage.delete(name)  # half of one too
        raise
    return Progress(done=1)


def train_deferral(router: Router, between: Between) -> Trained:
    """A rejector over the router's agents. Raises ValueError and VectorsMissing."""
    agents = list(router.agents.select_related("run__project"))
    evidence = known_evidence(router, agents)
    features = features_of(router, evidence.item_ids.tolist(), between)
    data = deferral_data(features, evidence, agents)
    parameters = router.parameters
    nu, hidden = float(parameters["nu"]), tuple(parameters["hidden"])
    between()
    names = [agent.name for agent in agents]
    report = deferral_report(data, names, nu=nu, hidden=hidden, seed=router.seed, between=between)
    fitted = Rejector(nu=nu, hidden=hidden, random_state=router.seed, penalty=report.penalty)
    fitted.fit(data.features, data.costs())
    learned_from = learned_from_of(evidence)
    metrics = (
        report.as_dict()
        | learned_from
        | {
            "fallback": fitted.fallback_,
            "converged": fitted.converged_,
            "notes": [
                *said_of_agents(evidence, [agent.name for agent in agents if not agent.is_people]),
                *report.said(),
            ],
        }
    )
    held_out = {"held_out_scores": report.scores, "held_out_wrong": data.wrong}
    return Trained(fitted, (features, data.costs()), metrics, held_out)


def train_meta(router: Router, between: Between) -> Trained:
    """A meta-router between the router's cheap and premium agent. Raises ValueError and VectorsMissing."""
    if router.comparison_set_id is not None:
        return train_uploaded(router, between)
    runs = [agent.run for agent in router.agents.select_related("run__project") if agent.run is not None]
    if len(runs) < 2 or len(runs) < router.agents.count():
        raise ValueError("A router between a cheap and a premium annotator needs two annotators, or more.")
    known = comparisons_of(router.project, runs, list(router.judge_runs.order_by("pk")), seed=router.seed)
    if problem := known.problem():
        raise ValueError(problem)
    if len(runs) > 2:
        return _train_several(router, known, between)
    ids, _, is_gold, outcome = known.rows()
    features = features_of(router, ids.tolist(), between)
    report = meta_report(features, is_gold, outcome, between=between, **how_of(router))
    metrics = (
        metrics_of(report, known.gains[:, 1], len(known.preferences), router.seed)
        | learned_from_of(known.evidence)
        | {
            "unlike": known.unlike,
            "accuracy": dict(zip(("cheap", "premium"), known.accuracies, strict=True)),
            "notes": said_of_agents(known.evidence, known.names),
        }
    )
    return Trained(report.router, (features, is_gold, outcome), metrics)


def _train_several(router: Router, known: Comparisons, between: Between) -> Trained:
    """A meta-router among three annotators or more."""
    ids, pairs, is_gold, outcome = known.rows()
    distinct, of_row = np.unique(ids, return_inverse=True)
    features = features_of(router, distinct.tolist(), between)[of_row]
    prices = [agent.price for agent in router.agents.all()]
    extra_costs, is_unit = extra_costs_of(prices)
    report = report_among(
        features,
        is_gold,
        outcome,
        pairs,
        ids,
        known.gains,
        extra_costs,
        between=between,
        **how_of(router),
    )
    fitted = report.router
    biases = zip(fitted.compared_.tolist(), (-fitted.pair_shift_).tolist(), strict=True)
    bias = {tuple(pair): shift for pair, shift in biases if np.isfinite(shift)}
    metrics = (
        metrics_of(report, known.gains, len(known.preferences), router.seed)
        | learned_from_of(known.evidence)
        | {
            "unlike": known.unlike,
            "accuracies": list(known.accuracies),
            "is_unit": is_unit,
            "notes": said_of_agents(known.evidence, known.names),
            "alone": [
                {
                    "name": name,
                    "accuracy": accuracy,
                    "price": None if price is None else float(price),
                    "router_accuracy": known.accuracies[0] + gain,
                    "bias": bias.get((position, 0)),
                }
                for position, ((name, accuracy, _, _), price, gain) in enumerate(
                    zip(known.counted, prices, report.at_cost, strict=True)
                )
            ],
        }
    )
    return Trained(fitted, (features, is_gold, outcome, pairs, ids), metrics)


def features_of(router: Router, item_ids: Sequence[int], between: Callable[[], object]) -> FloatArray:
    """The items' vectors, (n, d), in order; those missing are made, and zeros stand for those that cannot be.

    Raises Refusal or ValueError.
    """
    choice = vector_choice(router)
    version = make_vectors(router.project, item_ids, choice, user=router.created_by, between=between)
    router.vectors["version"] = version.digest
    return vectors_of(router.project, item_ids, version, zeros=True).astype(np.float64)


def scores_of(router: Router, trained: Trained, between: Between) -> bytes:
    """What the router says of each item that no person has answered, and of the known ones that were held out, as kept
    arrays; or of each row of the comparisons that were uploaded.
    """
    if router.comparison_set_id is not None:
        return uploaded_scores(router, trained, between)
    ids = open_items(router.project)
    scores = []
    for start in range(0, len(ids), _BLOCK):
        block = features_of(router, ids[start : start + _BLOCK], between)
        scores.append(SCORERS[router.kind](trained.router, block))
        between()
    arrays = {
        "item_ids": np.array(ids, dtype="<i8"),
        "scores": np.concatenate(scores).astype("<f4") if scores else np.zeros((0, 1), dtype="<f4"),
    }
    return write_arrays(arrays | trained.held_out, {"router": router.pk})


def kept_scores(router: Router) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Item ids, (n,), and what the router said of them when it was trained, (n, k)."""
    arrays = kept_arrays(router)
    return arrays["item_ids"].astype(np.int64), arrays["scores"].astype(np.float64)


def kept_arrays(router: Router) -> dict[str, npt.NDArray[Any]]:
    """What was kept beside the router: `item_ids`, `scores`, and by its kind what was held out.

    Without the scores of items that got other content since: those are like items that came later.
    """
    with router.scores.open("rb") as file:
        arrays, _ = read_arrays(file.read())
    replaced = router.project.items.filter(replaced_at__gte=router.job.started_at or router.created_at)
    still = ~np.isin(arrays["item_ids"], np.array(replaced.values_list("pk", flat=True), dtype=np.int64))
    return arrays | {name: arrays[name][still] for name in ("item_ids", "scores")}


def known_evidence(router: Router, agents: list[Agent]) -> Evidence:
    """What is known of the agents that are no people; of very much, a seeded sample. Raises ValueError for little."""
    runs = [agent.run for agent in agents if agent.run is not None]
    evidence = evidence_of(router.project, runs)
    if len(evidence) < MIN_KNOWN:
        raise ValueError(
            f"Of {len(evidence)} items it is known what is right and every agent has answered them; at least "
            f"{MIN_KNOWN} are needed. Label more calibration items, and let every agent annotate them."
        )
    if len(evidence) <= MOST_ITEMS:
        return evidence
    rng = np.random.default_rng([router.seed, 11])
    return evidence.part(np.sort(rng.choice(len(evidence), MOST_ITEMS, replace=False)))


def learned_from_of(evidence: Evidence) -> dict[str, Any]:
    """Of how many items, and where what is right was known from."""
    return {
        "items": len(evidence),
        "from_calibration": evidence.from_calibration,
        "from_corrections": evidence.from_corrections,
    }


def deferral_data(features: FloatArray, evidence: Evidence, agents: list[Agent]) -> Data:
    """The evidence with a column for people where they are an agent: they are right, and their answer is the truth."""
    columns = []
    column = 0
    for agent in agents:
        columns.append(-1 if agent.is_people else column)
        column += not agent.is_people
    at = np.array(columns)
    people = at < 0

    def spread(values: npt.NDArray[Any], theirs: Any) -> npt.NDArray[Any]:
        found = values[..., np.where(people, 0, at)].copy()
        found[..., people] = theirs
        return found

    return Data(
        features=features,
        wrong=spread(evidence.is_wrong, False),
        head_wrong=spread(evidence.head_is_wrong, False),
        alpha=np.array([agent.alpha for agent in agents]),
        beta=np.array([agent.beta for agent in agents]),
        prices=np.array([float(agent.price or 0) for agent in agents]),
        confidences=spread(evidence.confidences, 1.0),
        answers=spread(evidence.answers, -1),
        f1=None if evidence.f1 is None else spread(evidence.f1, 1.0),
    )


TRAINERS: Mapping[str, Callable[[Router, Between], Trained]] = {
    Router.Kind.DEFERRAL: train_deferral,
    Router.Kind.META: train_meta,
}
# By kind: the scores, (n, k), of a fitted router for features (n, d).
SCORERS: Mapping[str, Callable[[Any, FloatArray], FloatArray]] = {
    Router.Kind.DEFERRAL: lambda fitted, features: fitted.scores(features),
    Router.Kind.META: lambda fitted, features: (
        fitted.gains(features)[:, 1:]
        if isinstance(fitted, SeveralRouter)
        else fitted.predict(features)[:, np.newaxis]
    ),
}
