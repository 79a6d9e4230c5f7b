"""What the embeddings of a project's items will cost, before any is bought."""

from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from annotate.connections import price_of
from annotate.contents import items_in_order
from annotate.models import ItemVector, Project
from annotate.vectors import Kind, VectorChoice, check_vector_choice, newest_version, written_text
from annotate.vectors_work import TEXTS_A_CALL
from mllm.messages import EmbeddingRequest
from mllm.prices import token_cost
from mllm.tokens import estimate_tokens

# Items whose tokens are counted; the others are taken to be like them.
_SAMPLED = 200


@dataclass(frozen=True, slots=True)
class VectorsEstimate:
    """What buying vectors will take.

    `bought` items have theirs, which are not paid for again; `items` are the others. `tokens` are counted roughly on
    some of them. `cost` is US$: 0 for what is made on this machine, None where no price of the model is known.
    """

    items: int
    bought: int
    calls: int
    tokens: int
    cost: Decimal | None


def vectors_estimate(project: Project, choice: VectorChoice) -> VectorsEstimate:
    """What making the vectors of the project's items that have none will take. Raises Refusal."""
    check_vector_choice(project, choice)
    ids = project.items.order_by("pk").values_list("pk", flat=True)
    version = newest_version(project, choice)
    made = ItemVector.objects.filter(version=version, failure="").values_list("item_id", flat=True)
    bought = set(made) if version is not None else set()
    todo = [pk for pk in ids if pk not in bought]
    if choice.kind != Kind.EMBEDDINGS or choice.connection is None:
        return VectorsEstimate(len(todo), len(bought), 0, 0, Decimal(0))
    tokens = round(len(todo) * _mean_tokens(todo, choice.model.strip()))
    price = price_of(choice.connection.provider, choice.model.strip())
    return VectorsEstimate(
        items=len(todo),
        bought=len(bought),
        calls=-(-len(todo) // TEXTS_A_CALL),
        tokens=tokens,
        cost=None if price is None else token_cost(price, tokens, 0),
    )


def _mean_tokens(item_ids: list[int], model: str) -> float:
    """Of an item's text, over a seeded sample; an item without text is not sent, and takes none."""
    places = np.sort(np.random.default_rng(0).permutation(len(item_ids))[:_SAMPLED])
    texts = [written_text(item) for item in items_in_order([item_ids[place] for place in places])]
    counted = [
        estimate_tokens(EmbeddingRequest(model=model, system="", parts=(text,), max_tokens=0)) if text else 0
        for text in texts
    ]
    return float(np.mean(counted)) if counted else 0.0
