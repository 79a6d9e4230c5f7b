"""Examples of labels, where it is known which items somebody is still to answer unswayed."""

from annotate.errors import Refusal
from annotate.models import Item, Label, LabelExample, Project, User
from annotate.services import guidelines
from review.blindness import tasks_that_a_label_would_sway


def example_add(*, label: Label, item: Item, user: User, note: str = "") -> LabelExample:
    """Make the item an example of the label, unless that would tell a reviewer the label of what waits for them."""
    if tasks_that_a_label_would_sway(label.project).filter(item=item).exists():
        raise Refusal(
            f"“{item.external_id}” waits to be answered blind, and an example shows its label. Choose another item, "
            "or come back when it is answered.",
            field="item",
        )
    return guidelines.example_add(label=label, item=item, user=user, note=note)


def item_named(project: Project, name: str) -> Item:
    """The item of the project with this external id or, where none has it, with this id. Raises Refusal."""
    name = name.strip()
    rows = project.items.select_related("image")
    item = rows.filter(external_id=name).first()
    if item is None and name.isdecimal() and len(name) <= 18:
        item = rows.filter(pk=int(name)).first()
    if item is None:
        raise Refusal(
            f"There is no item “{name[:80]}” in this project." if name else "Say which item: type its id.",
            field="item",
        )
    return item
