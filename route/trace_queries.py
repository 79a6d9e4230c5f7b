"""What a trace-aware router asks its model: about an item, after so many steps, with demonstrations like it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from annotate.annotators import CUT_OFF
from annotate.connections import ConnectionProblem, price_of, settings_of
from annotate.contents import item_content, items_in_order, label_specs
from annotate.examples import content_of
from annotate.models import AnnotationRun, Connection, Item
from jobs.calling import Outcome
from jobs.recording import call_fields
from jobs.work import CannotGoOn
from mllm.errors import CallError, Failure
from mllm.messages import Reply, Request
from mllm.prices import Price
from mllm.registry import ConnectionSettings
from route.models import Router, RouterQuery, TracedRun
from route.router_prompts import Demonstration, Verdict, read_verdict, router_request
from route.trace_data import DEMO, KnownTraces, known_traces, traces_of

FloatArray = npt.NDArray[np.float64]

# What the levels that a model states stand for where they are kept.
RISKS: Mapping[str, float] = {"low": 0.0, "medium": 0.5, "high": 1.0}
# After so many answers, none of which can be read, no more is asked.
UNREAD = 20
NOT_READ = "The reply does not decide in the form that was asked for; it counts as going on."


@dataclass(frozen=True, slots=True)
class Variant:
    """A wording of the router: how strict it is, how many demonstrations it shows, and how they are retrieved."""

    strictness: str
    m: int
    style: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def variants_of(router: Router) -> list[Variant]:
    """Those tried, in the order of `RouterQuery.variant`."""
    return [Variant(**each) for each in router.parameters["variants"]]


def annotator_of(router: Router) -> AnnotationRun:
    """The run whose traces the router is learned from: it says who the annotator is."""
    run = router.agents.select_related("run__project", "run__connection").get(position=0).run
    assert run is not None  # noqa: S101 (position 0 of a trace router is its annotator)
    return run


def router_connection(router: Router) -> ConnectionSettings:
    """How the router's model is reached. Raises CannotGoOn, so that the job pauses and says why."""
    connection = Connection.objects.filter(pk=router.parameters["connection"]).first()
    if connection is None:
        raise CannotGoOn("The connection of the router's model was deleted.", failure=Failure.AUTHENTICATION)
    try:
        return settings_of(connection)
    except ConnectionProblem as error:
        raise CannotGoOn(str(error), failure=Failure.AUTHENTICATION) from error


def router_price(router: Router) -> Price | None:
    return price_of(router.parameters["provider"], router.parameters["model"])


class Asking:
    """Makes the requests of one router; it reads its pool of demonstrations at the first that shows some."""

    def __init__(
        self,
        router: Router,
        between: Callable[[], object] = lambda: None,
        *,
        known: KnownTraces | None = None,
        annotator: AnnotationRun | None = None,
    ) -> None:
        """`known` and `annotator` are those of a router that is not saved yet."""
        self._router = router
        self._known, self._annotator = known, annotator
        self._project = router.project
        self._between = between
        _, self._specs = label_specs(router.project)
        self._pool: _Pool | None = None

    def vectors(self, variant: Variant, item_ids: Sequence[int]) -> dict[int, FloatArray]:
        """Vectors by item, as `request` takes them; none where the variant shows no demonstrations."""
        if not variant.m or not item_ids:
            return {}
        # scikit-learn takes a second to import: only a process that needs it pays.
        from route.training import features_of

        rows = features_of(self._router, item_ids, self._between)
        return dict(zip(item_ids, rows, strict=True))

    def request(
        self, variant: Variant, item: Item, steps: Sequence[str], vector: FloatArray | None
    ) -> Request:
        """What the model is asked about the item after these steps. Raises CallError where it cannot be asked.

        Without a vector it is shown the first demonstrations of the pool, which is enough to tell what it costs.
        """
        try:
            return self.about(variant, item, vector)(steps)
        except ValueError as error:
            raise CallError(Failure.BAD_REQUEST, str(error)) from error

    def about(
        self, variant: Variant, item: Item, vector: FloatArray | None
    ) -> Callable[[Sequence[str]], Request]:
        """Makes the requests about one item from its steps; what it makes needs no database. Raises CallError."""
        return partial(
            router_request,
            task_type=self._project.task_type,
            model=self._router.parameters["model"],
            labels=self._specs,
            item=item_content(item),
            strictness=variant.strictness,
            demonstrations=self._demonstrations(variant, item, vector),
            answer_format=self._router.parameters["answer_format"],
            instructions=self._project.instructions,
        )

    def _demonstrations(self, variant: Variant, item: Item, vector: FloatArray | None) -> list[Demonstration]:
        if not variant.m:
            return []
        if self._pool is None:
            self._pool = _Pool(
                self._router,
                self._known or known_traces(self._router),
                self._annotator or annotator_of(self._router),
            )
        if vector is None:
            return self._pool.shown(range(min(variant.m, len(self._pool))))
        return self._pool.shown(self._pool.nearest(variant, item, vector, self._between))


class _Pool:
    """The labelled items that demonstrations are taken from."""

    def __init__(self, router: Router, known: KnownTraces, annotator: AnnotationRun) -> None:
        self._router = router
        ids, self._is_error = known.of(DEMO)
        self._traces = traces_of(annotator, ids)
        self._items = list(items_in_order(ids))
        kept = {item.pk for item in self._items} & self._traces.keys()
        self._is_error = self._is_error[[place for place, pk in enumerate(ids) if pk in kept]]
        self._items = [item for item in self._items if item.pk in kept]
        self._contents = [content_of(item) for item in self._items]
        self._retrieval: Any = None  # route.retrieval.Demonstrations

    def __len__(self) -> int:
        return len(self._items)

    def nearest(
        self, variant: Variant, item: Item, vector: FloatArray, between: Callable[[], object]
    ) -> list[int]:
        """Places in the pool; never of the item itself or of a copy, which would give its answer away."""
        if not self._items:
            return []
        from route.retrieval import Demonstrations
        from route.training import features_of

        if self._retrieval is None:
            rows = features_of(self._router, [each.pk for each in self._items], between)
            self._retrieval = Demonstrations(rows, self._is_error)
        content = content_of(item)
        copies = frozenset(place for place, each in enumerate(self._contents) if each == content)
        found: list[int] = self._retrieval.retrieve(vector, variant.m, variant.style, without=copies)
        return found

    def shown(self, places: Sequence[int]) -> list[Demonstration]:
        return [
            Demonstration(
                item_content(self._items[place]),
                self._traces[self._items[place].pk].steps,
                agreed=not self._is_error[place],
            )
            for place in places
        ]


def is_often_unread(unread: int, asked: int) -> bool:
    """Whether so many of a router's answers cannot be read that it has to be said first of all: one in twenty."""
    return unread > 0 and 20 * unread >= asked


def nothing_read(router: Router, unread: int) -> str:
    """What a job pauses with after so many answers of the router's model, none of which could be read."""
    return (
        f"None of {unread} answers of {router.parameters['model']} could be read as a decision. Cancel, and "
        "choose another model; or resume, to ask as many again."
    )


def query_row(
    router: Router,
    outcome: Outcome,
    *,
    item_id: int,
    step: int,
    variant: int,
    price: Price | None,
    traced_run: TracedRun | None = None,
) -> tuple[RouterQuery, Verdict]:
    """The row of an outcome, and what the model said; where it failed that counts as going on."""
    row = RouterQuery(
        router=router,
        traced_run=traced_run,
        item_id=item_id,
        step=step,
        variant=variant,
        **call_fields(outcome, price),
    )
    verdict = Verdict(False, is_readable=False)
    if outcome.reply is not None:
        verdict = read_verdict(outcome.reply.text)
        if verdict.is_readable:
            row.escalates, row.risk = verdict.escalates, RISKS.get(verdict.risk)
        else:
            row.failure = Failure.UNPARSEABLE
            row.message = CUT_OFF if _is_cut_off(outcome.reply) else NOT_READ
    return row, verdict


def _is_cut_off(reply: Reply) -> bool:
    return reply.finish_reason == "length"
