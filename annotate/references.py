"""Which rows something refers to."""

from collections.abc import Collection

from django.db import models


def referred_to(
    model: type[models.Model], pks: Collection[int], *, by_any_but: Collection[type[models.Model]] = ()
) -> set[int]:
    """Those of the model's rows that a row of any model points to, but for the models that do not count."""
    found: set[int] = set()
    for relation in model._meta.get_fields(include_hidden=True):
        if isinstance(relation, models.ManyToOneRel) and pks and relation.related_model not in by_any_but:
            name = relation.field.attname
            rows = relation.related_model._base_manager.filter(**{f"{name}__in": pks})
            found |= set(rows.order_by().values_list(name, flat=True))
    return found
