"""Trained routers that are asked about texts, request by request: read once, and answering in milliseconds."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from django.core.files.storage import default_storage

from annotate.array_files import read_arrays
from annotate.errors import Refusal
from annotate.models import VectorVersion
from annotate.vectors import newest_version
from jobs.services import JobStateError
from route.comparison_rows import MOST_QUERY_CHARACTERS
from route.meta import BoolArray, FloatArray, MetaRouter, choose_w, premium_items
from route.models import Router
from route.router_vectors import vector_choice
from route.saving import load
from route.services.meta_plans import MetaLimit
from route.text_router import TextRouter, TextVectors

MOST_QUERIES = 1_000
_KEPT = 8  # routers in memory
_READ = 2_000  # rows at a time


@dataclass(frozen=True)
class Routed:
    """What a router says of n texts: predicted gains (n,), and whether each is worth the premium annotator, (n,).

    It is where its gain is above `w` · `cost_gap`; `cost_gap` is US$, or 1 where `is_unit`: no price says that the
    premium annotator costs more.
    """

    gains: FloatArray
    is_premium: BoolArray
    w: float
    cost_gap: float
    is_unit: bool

    @property
    def threshold(self) -> float:
        """The gain above which a text goes to the premium annotator."""
        return self.w * self.cost_gap

    @property
    def answers(self) -> list[dict[str, bool | float]]:
        """One for each text."""
        return [
            {"premium": premium, "gain": gain}
            for premium, gain in zip(self.is_premium.tolist(), self.gains.tolist(), strict=True)
        ]


def route_texts(router: Router, queries: Sequence[str], limit: MetaLimit) -> Routed:
    """Decide about texts within the limit. Raises Refusal, and JobStateError for a router that is not trained."""
    fitted = text_router_of(router)
    texts = _checked(queries)
    gap, is_unit = _cost_gap(router, limit)
    w = _w(router, limit, gap)
    gains = fitted.predict(texts)
    return Routed(gains, premium_items(gains, w, gap), w, gap, is_unit)


def text_router_of(router: Router) -> TextRouter:
    """The trained router, ready to be asked about texts; kept in memory. Raises as `route_texts`."""
    if problem := why_not_served(router):
        raise Refusal(problem)
    if not router.is_trained:
        raise _not_trained(router)
    if router.comparison_set_id is not None:
        return _loaded(router.file.name)
    version = _version_of(router)
    return _loaded_with(router.file.name, version.pk, version.digest)


def expected_gains(router: Router) -> tuple[list[str], Iterator[list[Any]]]:
    """(column names, rows): each row of the uploaded comparisons, its query, gold gain, preference and expected gain.

    Raises Refusal for routers of a project's items, and JobStateError for one that is not trained.
    """
    if router.comparison_set is None:
        raise Refusal(
            "Only routers of uploaded comparisons have such a file; others hand out items by their plans."
        )
    if not router.is_trained:
        raise _not_trained(router)
    with router.scores.open("rb") as file:
        arrays, _ = read_arrays(file.read())
    gains = dict(zip(arrays["rows"].tolist(), arrays["gains"].tolist(), strict=True))
    found = router.comparison_set.comparisons.order_by("position")
    rows = found.values_list("position", "query", "gold_gain", "preference").iterator(chunk_size=_READ)
    return ["row", "query", "gold_gain", "preference", "expected_gain"], (
        [*row, gains.get(row[0])] for row in rows
    )


def why_not_served(router: Router) -> str:
    """Why the router says nothing of texts, in a sentence; "" where it does, or will once it is trained."""
    if router.kind != Router.Kind.META:
        return (
            "Only routers between a cheap and a premium annotator answer about texts; this one is of the kind "
            f"“{router.get_kind_display()}”, which hands out the project's items."
        )
    if router.comparison_set_id is not None:
        return ""
    if router.agents.count() > 2:
        return "This router chooses among several annotators; only one between two answers about texts."
    task = router.project.task
    if not task.needs_text or task.needs_question or task.needs_image:
        return (
            "This router was trained on items that are more than a text, so it cannot tell what a text alone is worth. "
            "It hands out the project's items by its plans."
        )
    if router.vectors.get("kind") == VectorVersion.Kind.EMBEDDINGS:
        return (
            "This router sees embeddings of a provider, which cost a call for every text. Train one that sees words, "
            "or the text encoder on this machine, to ask it about texts."
        )
    return ""


def _not_trained(router: Router) -> JobStateError:
    return JobStateError(
        f"The router answers once it is trained: its training is {router.job.get_state_display().lower()}."
    )


@lru_cache(maxsize=_KEPT)
def _loaded(name: str) -> TextRouter:
    """By the name of the file, which is never written twice."""
    found = _read(name)
    if not isinstance(found, TextRouter):
        raise Refusal("This router does not choose between a cheap and a premium annotator for texts.")
    return found


@lru_cache(maxsize=_KEPT)
def _loaded_with(name: str, version_id: int, digest: str) -> TextRouter:
    """A router of a project's items with how their texts became vectors."""
    found = _read(name)
    if not isinstance(found, MetaRouter):
        raise Refusal("This router does not choose between a cheap and a premium annotator for texts.")
    version = VectorVersion.objects.get(pk=version_id, digest=digest)
    return TextRouter(TextVectors(str(version.kind)).taking(bytes(version.fitted or b"")), found)


def _read(name: str) -> object:
    try:
        with default_storage.open(name) as file:
            content = io.BytesIO(file.read())
    except FileNotFoundError:
        raise Refusal("The router's file is gone. Train the router again.") from None
    try:
        return load(content)[0]
    except ValueError as error:
        raise Refusal(str(error)) from error


def _version_of(router: Router) -> VectorVersion:
    """How the texts became vectors when the router was trained. Raises Refusal."""
    choice = vector_choice(router)
    digest = router.vectors.get("version")
    if digest is None:
        version = newest_version(router.project, choice)
    else:
        made = router.project.vector_versions.filter(choice=choice.digest, digest=digest)
        version = made.defer("fitted").first()
    if version is None:
        raise Refusal("The vectors that the router was trained on are gone. Train the router again.")
    return version


def _checked(queries: Sequence[str]) -> list[str]:
    if not queries:
        raise Refusal("Send at least one query.", field="queries")
    if len(queries) > MOST_QUERIES:
        raise Refusal(
            f"{len(queries):,} queries were sent; at most {MOST_QUERIES:,} are answered at once. Send them in parts.",
            field="queries",
        )
    texts = [query.strip() for query in queries]
    for number, text in enumerate(texts, start=1):
        if not text:
            raise Refusal(f"Query {number:,} is empty.", field="queries")
        if len(text) > MOST_QUERY_CHARACTERS:
            raise Refusal(
                f"Query {number:,} has {len(text):,} characters; at most {MOST_QUERY_CHARACTERS:,} are read.",
                field="queries",
            )
    return texts


def prices_of_router(router: Router) -> tuple[float | None, float | None]:
    """US$ for an answer of the cheap and of the premium annotator; None where it is not known."""
    if router.comparison_set_id is not None:
        return router.parameters.get("cheap_price"), router.parameters.get("premium_price")
    cheap, premium = (None if agent.price is None else float(agent.price) for agent in router.agents.all())
    return cheap, premium


def _cost_gap(router: Router, limit: MetaLimit) -> tuple[float, bool]:
    cheap, premium = prices_of_router(router)
    gap = None if cheap is None or premium is None else premium - cheap
    if gap is not None and gap > 0:
        return gap, False
    if limit.extra_cost is not None:
        raise Refusal(
            "It is not known that the premium annotator costs more than the cheap one, so its extra cost is no limit. "
            "Limit its share instead.",
            field="extra_cost",
        )
    return 1.0, True


def _w(router: Router, limit: MetaLimit, gap: float) -> float:
    """The smallest w that keeps to the limit on gold that was held out."""
    if len(limit.as_dict()) > 1:
        raise Refusal("Limit the share, or the extra cost, or set w: one of the three.", field="w")
    if limit.w is not None and not (np.isfinite(limit.w) and limit.w >= 0):
        raise Refusal("w is a number of at least 0.", field="w")
    if limit.premium_share is None and limit.extra_cost is None:
        return limit.w or 0.0
    held_out = router.metrics["held_out"]
    try:
        return choose_w(
            held_out["predicted"],
            held_out["gains"],
            gap,
            max_share=limit.premium_share,
            max_cost=limit.extra_cost,
        ).w
    except ValueError as error:
        field = "extra_cost" if limit.premium_share is None else "premium_share"
        raise Refusal(str(error), field=field) from error
