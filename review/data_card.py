"""The data card of an export: what ran, what people did, what it cost, what is certified, and what the columns mean.

As data (`data_card.json`) and as a page that people read (`README.md`), whose front matter `datasets` understands.
"""

import html
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.conf import settings
from django.db.models import Count, Q
from django.utils import timezone

from annotate.models import Annotation, AnnotationRun, ModelRun, Project
from annotate.task_types import get_task_type
from criticize.models import CriticismRun
from review.certification import OPEN, certification_now
from review.export_rows import BOOLEANS, FILE_NAME, INTEGERS, NUMBERS, Column, header, own_columns
from review.models import Export, ReviewRound, ReviewTask
from review.services.picking import answered_at_once
from review.squad_export import FIELDS

CARD_VERSION = 1
README, CARD = "README.md", "data_card.json"

# As the hub of data sets names tasks.
_TASK_CATEGORIES = {
    "image_classification": "image-classification",
    "text_classification": "text-classification",
    "closed_vqa": "visual-question-answering",
    "extractive_qa": "question-answering",
}

# Where “{answer}” stands, a project with a label set has a label, and any other an answer.
_MEANINGS: Mapping[str, str] = {
    FILE_NAME: "the row's image, beside this table; `datasets` turns it into the column `image`",
    "item_id": "the item's number in Overread",
    "external_id": "the item's own id, from its upload",
    "file": "the name of the item's image",
    "text": "the item's text",
    "question": "the item's question",
    "machine_label": "what the annotator said; empty where it failed",
    "human_label": "what a person said; empty where nobody did",
    "final_label": "the human {answer} where there is one, else the machine's",
    "label_source": "whose {answer} the final one is: machine, human, or adjudicated where people differed and a "
    "manager decided",
    "error_prob": "ε̂, how likely the machine's {answer} is wrong, from 0 to 1; empty where the criticizer gave none",
    "selected": "whether the round's draw selected the item; true for calibration items",
    "inclusion_prob": "π, the probability with which a person was to answer the item, by the draw or by an audit",
    "machine_weight": "weight of the machine {answer} in the loss, λ(1 − human_weight); may be negative",
    "human_weight": "weight of the human {answer} in the loss, 1/π where a person answered, else 0; of what was picked "
    "by hand it is 0, or 1 with the threshold rule",
    "reviewer": "who gave the human {answer}",
    "reviewed_at": "when",
    "status": "reviewed, picked (by hand, beside the draw), audited, in conflict (people differ, nobody decided yet), "
    "unanswered (selected, no answer), routed (a router gave it to a person), machine, failed (no machine {answer}), "
    "calibration or not_annotated (added after the run)",
    "machine_start": "the first character of the machine's answer in the item's text, counted from 0 in Unicode code "
    "points; 0 with an empty answer says that the text holds none",
    "human_start": "the same of the person's answer",
    "final_start": "the same of the final answer",
    "start": "the first character of the answer in the item's text; 0 with an empty answer says that it holds none",
    "machine_no_answer": "whether the machine says that the item's text holds no answer; empty where it failed",
    "human_no_answer": "the same of the person's answer; empty where nobody answered",
    "final_no_answer": "the same of the final answer; empty where there is none",
    "no_answer": "whether the answer is that the item's text holds none; empty where nobody answered",
    "label": "one {answer} of the item",
    "weight": "its weight in the loss; may be negative",
    "source": "whose {answer} it is: machine or human",
    "round": "the round that it was answered in: the exported one, or an audit of it",
    "answer": "what the person said; empty where they skipped the item",
    "purpose": "why the person was asked: review, picked (by hand), adjudication (between answers that differ) or gold "
    "(a known item, to measure the person)",
    "copy": "0 for the first of those who were to answer the item",
    "arm": "what the person saw: criticism (and the {answer}), label (the {answer} alone), or blind (neither)",
    "action": "label (an answer), or skip",
    "reason": "why it was skipped",
    "seconds": "from showing the item to the answer",
    "late": "whether it came after the time for it had run out",
    "counted": "whether this turn's answer is the item's",
    "stands": "whether it was not taken back or replaced since",
    "answered_at": "when",
}


@cache
def product_version() -> str:
    with (settings.BASE_DIR / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


def data_card(
    export: Export,
    *,
    rows: int,
    columns: Mapping[Column, str] | None = None,
    left_out: int | None = None,
) -> dict[str, Any]:
    """Everything that somebody who trains on the export wants to know, as JSON. It names no reviewer.

    `left_out`: the items that the format has no place for, where it is one that leaves some out.
    """
    round, project = export.round, export.project
    run, annotator = round.criticism_run, round.annotation_run
    assert annotator is not None  # noqa: S101 (only rounds about a run's answers are exported)
    columns = own_columns(export) if columns is None else columns
    reviews, audits = _reviews(round), _audits(round)
    certified = certification_now(round)
    return {
        "card_version": CARD_VERSION,
        "product": {"name": "Overread", "version": product_version()},
        "written_at": timezone.now().isoformat(timespec="seconds"),
        "project": _project(project),
        "annotator": _run(annotator),
        "criticizer": _run(run) if run else None,
        "items": _items(export),
        "round": _round(round),
        "reviews": reviews,
        "audits": audits,
        "certificate": certified.certificate.as_dict() if certified.certificate else None,
        "certificate_missing": certified.missing,
        "cost": _cost(project, annotator, run, reviews, audits),
        "export": {
            "file": export.table_name,
            "format": export.format,
            "layout": export.layout,
            "lambda": export.lam,
            "rows": rows,
            "formulas_escaped": export.format == Export.Format.CSV and export.escape_formulas,
            "columns": _columns(export, columns),
        }
        | ({} if left_out is None else {"left_out": left_out}),
    }


def _project(project: Project) -> dict[str, Any]:
    labels = project.labels.order_by("position").values("name", "description")
    return {
        "name": project.name,
        "task": project.task_type,
        "guidelines": project.instructions,
        "labels": list(labels),
        "seed": project.seed,
    }


def _run(run: AnnotationRun | CriticismRun) -> dict[str, Any]:
    job = run.job
    job.refresh_from_db()
    said: dict[str, Any] = {
        "kind": run.kind,
        "name": run.who,
        "provider": run.provider,
        "model": run.model,
        "strategy": run.strategy,
        "answer_format": run.answer_format,
        "prompt_version": run.prompt_version,
        "parameters": run.parameters,
        "seed": run.seed,
        "started_at": run.created_at.isoformat(timespec="seconds"),
        "answers": job.succeeded,
        "failed": job.failed,
        "input_tokens": job.input_tokens,
        "output_tokens": job.output_tokens,
        "cost": _cost_of(run),
    }
    sources = run.sources.order_by("pk") if isinstance(run, AnnotationRun) else []
    said["sources"] = [_run(source) for source in sources]
    return said


def _cost_of(run: AnnotationRun | CriticismRun) -> float | None:
    """US$; None where some call of a model has no known price."""
    unpriced = Q(cost=None) & (Q(input_tokens__gt=0) | Q(output_tokens__gt=0))
    calls = run.annotations if isinstance(run, AnnotationRun) else run.criticisms
    if run.kind == ModelRun.Kind.PROMPTED and calls.filter(unpriced).exists():
        return None
    return float(run.job.cost)


def _items(export: Export) -> dict[str, int]:
    to_person = Q(failure=Annotation.TO_PERSON)
    annotations = Annotation.objects.filter(run=export.round.annotation_run)
    counts = annotations.exclude(to_person).aggregate(
        total=Count("pk"), failed=Count("pk", filter=~Q(failure=""))
    )
    return {
        "total": export.project.items.count(),
        "calibration": export.project.calibration_labels.count(),
        "annotated": counts["total"] - counts["failed"],
        "annotation_failed": counts["failed"],
        "given_to_people": annotations.filter(to_person).count(),
        "drawn_from": export.round.population,
    }


def _round(round: ReviewRound) -> dict[str, Any]:
    raises = round.budget_raises.order_by("draw_number")
    return {
        "id": round.pk,
        "rule": round.rule,
        "priority": round.priority,
        "parameters": round.parameters,
        "budget": round.budget,
        "seed": round.seed,
        "state": round.state,
        "drawn_at": round.created_at.isoformat(timespec="seconds"),
        "raises": [
            {
                "from": each.old_budget,
                "to": each.new_budget,
                "reviewed_by_then": each.reviewed,
                "at": each.created_at.isoformat(timespec="seconds"),
            }
            for each in raises
        ],
    }


def _counts(rounds: Sequence[ReviewRound]) -> dict[str, int]:
    """How many items the draws of these rounds selected, and what became of them.

    `picked` items were answered by hand beside the draw. `readings` are the answers and skips of all turns: of items
    that several people read, of adjudications and of known items too.
    """
    state, purpose = ReviewTask.State, ReviewTask.Purpose
    turns = ReviewTask.objects.filter(round__in=rounds)
    drawn = Q(is_counted=True) & ~Q(purpose=purpose.PICKED)
    decided = Q(is_counted=True, purpose=purpose.ADJUDICATION)
    counted = turns.aggregate(
        selected=Count("pk", filter=drawn),
        answered=Count("pk", filter=drawn & Q(state=state.ANSWERED)),
        skipped=Count("pk", filter=drawn & Q(state=state.SKIPPED)),
        picked=Count("pk", filter=Q(purpose=purpose.PICKED, state=state.ANSWERED)),
        adjudicated=Count("pk", filter=decided & Q(state=state.ANSWERED)),
        in_conflict=Count("pk", filter=decided & Q(state__in=OPEN)),
        readings=Count("pk", filter=Q(state__in=(state.ANSWERED, state.SKIPPED))),
        people=Count("correction__author", distinct=True),
    )
    counted["unanswered"] = counted["selected"] - counted["answered"] - counted["skipped"]
    return counted


def _reviews(round: ReviewRound) -> dict[str, int]:
    """`at_once` of the readings were answered with many others in one action from the list of items."""
    turns = round.tasks.filter(state=ReviewTask.State.ANSWERED)
    at_once = sum(part.count() for part in answered_at_once(round.project, turns))
    return {**_counts([round]), "at_once": at_once}


def _audits(round: ReviewRound) -> list[dict[str, Any]]:
    return [
        {
            "id": audit.pk,
            "seed": audit.seed,
            "drawn_from": audit.population,
            "extends": audit.parameters.get("extends"),
            **_counts([audit]),
        }
        for audit in round.audits.order_by("pk")
    ]


def _cost(
    project: Project,
    annotator: AnnotationRun,
    criticizer: CriticismRun | None,
    reviews: Mapping[str, int],
    audits: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """US$. What people did is priced by the project's price a review; what is known by gold, and what was answered many
    at once, costs nothing."""
    price = float(project.review_price)
    models = [
        _cost_of(annotator),
        *([_cost_of(criticizer)] if criticizer else []),
        *(_cost_of(source) for source in annotator.sources.all()),
    ]
    known = [cost for cost in models if cost is not None]
    model_cost = sum(known) if len(known) == len(models) else None
    done = {
        "reviews": reviews["readings"] - reviews["at_once"],
        "audited": sum(audit["readings"] for audit in audits),
        "calibration_labels": project.calibration_labels.filter(author__isnull=False).count(),
    }
    people = sum(done.values()) * price
    items = project.items.count()
    return {
        "currency": "USD",
        "models": model_cost,
        "review_price": price,
        **done,
        "people": round(people, 6),
        "total": None if model_cost is None else round(model_cost + people, 6),
        "all_human": round(items * price, 6),
    }


def _columns(export: Export, columns: Mapping[Column, str]) -> list[dict[str, str]]:
    if export.format == Export.Format.SQUAD:
        kinds = {
            "data": "list",
            "paragraphs": "list",
            "qas": "list",
            "answers": "list",
            "is_impossible": "boolean",
        }
        return [
            {"name": name, "type": kinds.get(name, "text"), "meaning": meaning}
            for name, meaning in FIELDS.items()
        ]
    own = {name: column for column, name in columns.items()}
    noun = export.project.task.answer_noun
    said = []
    for name in header(export, columns):
        kind, key = own.get(name, ("", name))
        meaning = f"the item's own column “{key}”" if kind == "column" else _MEANINGS[key].format(answer=noun)
        type_ = "text" if kind == "column" else _type(name)
        said.append({"name": name, "type": type_, "meaning": meaning})
    return said


def _type(name: str) -> str:
    if name in INTEGERS:
        return "integer"
    if name in NUMBERS:
        return "number"
    return "boolean" if name in BOOLEANS else "text"


# --- As a page -------------------------------------------------------------------------------------------------------


def card_json(card: Mapping[str, Any]) -> str:
    return json.dumps(card, ensure_ascii=False, indent=2) + "\n"


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the card as people read it: a sentence, a table, and what else is to be said."""

    title: str
    head: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
    before: str = ""
    after: Sequence[str] = ()


def sections(card: Mapping[str, Any]) -> list[Section]:
    """The card's parts in order, for its page and for README.md."""
    export, sources = card["export"], card["annotator"]["sources"]
    found = [
        _certificate_section(card),
        Section(
            "What ran",
            ("", "annotator", *(["criticizer"] if card["criticizer"] else [])),
            _run_rows(card["annotator"], card["criticizer"]),
        ),
        Section(
            "Answers that the annotator rests on",
            ("provider", "model", "strategy", "prompt version"),
            [(each["provider"], each["model"], each["strategy"], each["prompt_version"]) for each in sources],
        ),
        Section("Items and reviews", ("what", "how many"), _count_rows(card)),
        Section("How items were chosen for people", ("what", "value"), _round_rows(card["round"])),
        Section("Cost", ("what", "US$"), _cost_rows(card["cost"], _noun(card))),
        Section(
            "Labels",
            ("label", "meaning"),
            [(each["name"], each["description"]) for each in card["project"]["labels"]],
        ),
        Section(
            "Columns",
            ("column", "type", "meaning"),
            [(each["name"], each["type"], each["meaning"]) for each in export["columns"]],
            before=_layout_in_words(export, _noun(card)),
        ),
    ]
    return [each for each in found if each.rows or each.before]


def _noun(card: Mapping[str, Any]) -> str:
    return get_task_type(card["project"]["task"]).answer_noun


def _layout_in_words(export: Mapping[str, Any], noun: str) -> str:
    if export["format"] == Export.Format.SQUAD:
        return (
            f"SQuAD JSON of version 2.0: {export['rows']:,} items with their final answers. Items without a final "
            f"answer, which are left out: {export['left_out']:,}."
        )
    if export["layout"] == Export.Layout.ANSWERS:
        return (
            "Layout: answers. One row for everything that a person answered or skipped, in the order given."
        )
    return (
        f"Layout: {export['layout']}. λ = {export['lambda']}. The mean over all items of "
        f"machine_weight · ℓ(machine {noun}) + human_weight · ℓ(human {noun}) is the loss to train with."
    )


def readme(card: Mapping[str, Any], configs: Mapping[str, str] | None = None) -> str:
    """The card as Markdown. `configs` are the paths of the data by configuration; by default the export's own file."""
    export = card["export"]
    is_folder = export["format"] == Export.Format.IMAGE_FOLDER
    is_squad = export["format"] == Export.Format.SQUAD
    configs = configs or {"default": "train/**" if is_folder else export["file"]}
    parts = [
        _front_matter(card, configs),
        f"# {_words(card['project']['name'])}",
        f"{_noun(card).capitalize()}s that a model gave and people corrected, written by {card['product']['name']} "
        f"{card['product']['version']} on {card['written_at'][:10]}.",
        *(_markdown(section) for section in sections(card)),
        _guidelines(card["project"]["guidelines"]),
        "## Reading it",
        _reading_squad(export["file"]) if is_squad else _reading(configs, is_folder=is_folder),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown(section: Section) -> str:
    table = _table(section.head, section.rows) if section.rows else ""
    parts = (f"## {section.title}", section.before, table, *section.after)
    return "\n\n".join(part for part in parts if part)


def _front_matter(card: Mapping[str, Any], configs: Mapping[str, str]) -> str:
    """YAML, in which every JSON string is a string."""
    lines = ["---", f"pretty_name: {json.dumps(card['project']['name'], ensure_ascii=False)}"]
    if category := _TASK_CATEGORIES.get(card["project"]["task"]):
        lines += ["task_categories:", f"- {category}"]
    lines += ["tags:", "- overread", "configs:"]
    for name, path in configs.items():
        lines += [
            f"- config_name: {name}",
            "  data_files:",
            "  - split: train",
            f"    path: {json.dumps(path)}",
        ]
    return "\n".join([*lines, "---"])


def _certificate_section(card: Mapping[str, Any]) -> Section:
    said, noun = card["certificate"], _noun(card)
    if said is None:
        return Section("Certificate", before=f"None was made. {card['certificate_missing']}")
    rows = [
        (name, _percent(said[key]["share"]), f"{_percent(said[key]['low'])} to {_percent(said[key]['high'])}")
        for name, key in (
            (f"machine {noun}s, before", "machine_accuracy"),
            (f"final {noun}s", "final_accuracy"),
        )
    ]
    basis = (
        f"People reviewed {said['reviewed']:,} of {said['items']:,} items. Of the {said['unreviewed']:,} others "
        f"{said['audited']:,} were answered blind, drawn at random: {said['wrong']:,} of those {noun}s were wrong. "
        "What people said in the review counts as right."
    )
    return Section(
        "Certificate", ("accuracy of", "estimate", "95% interval"), rows, after=(basis, *said["notes"])
    )


def _run_rows(annotator: Mapping[str, Any], criticizer: Mapping[str, Any] | None) -> list[tuple[Any, ...]]:
    keys = (
        "kind",
        "provider",
        "model",
        "strategy",
        "answer_format",
        "prompt_version",
        "parameters",
        "seed",
        "started_at",
        "answers",
        "failed",
        "input_tokens",
        "output_tokens",
    )
    runs = [annotator, criticizer] if criticizer else [annotator]
    return [(key.replace("_", " "), *(_brief(run[key]) for run in runs)) for key in keys]


def _brief(value: Any) -> Any:
    """Without the ids of the items that a classifier learned from: data_card.json has them."""
    if not isinstance(value, Mapping):
        return value
    return {name: each for name, each in value.items() if name != "training_item_ids"} or ""


_BESIDE = (
    ("of them in conflict, to be adjudicated", "in_conflict"),
    ("adjudicated, since answers differed", "adjudicated"),
    ("picked by hand beside the draw, and answered", "picked"),
    ("answered many at once, not one by one", "at_once"),
)


def _count_rows(card: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    items, reviews = card["items"], card["reviews"]
    return [
        ("items", items["total"]),
        ("calibration items", items["calibration"]),
        (f"items with a machine {_noun(card)}", items["annotated"]),
        ("items where the annotator failed", items["annotation_failed"]),
        *([("items that a router gave to people", given)] if (given := items["given_to_people"]) else []),
        ("items drawn from", items["drawn_from"]),
        ("selected for review", reviews["selected"]),
        ("answered", reviews["answered"]),
        ("skipped", reviews["skipped"]),
        ("not answered", reviews["unanswered"]),
        *((words, reviews[key]) for words, key in _BESIDE if reviews.get(key)),
        ("people who reviewed", reviews["people"]),
        ("audited blind", sum(audit["answered"] for audit in card["audits"])),
        ("rows in the file", card["export"]["rows"]),
    ]


def _round_rows(said: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    raises = [
        (f"raised on {each['at'][:10]}", f"from {each['from']:,} to {each['to']:,}")
        for each in said["raises"]
    ]
    return [
        ("rule", said["rule"]),
        ("priority", said["priority"]),
        ("parameters", said["parameters"]),
        ("budget", said["budget"]),
        *raises,
        ("seed", said["seed"]),
        ("drawn", said["drawn_at"][:10]),
    ]


def _cost_rows(cost: Mapping[str, Any], noun: str) -> list[tuple[Any, ...]]:
    price = cost["review_price"]
    people = [
        (words, f"{cost[key] * price:,.2f} ({cost[key]:,} × {price:g})")
        for words, key in (
            ("reviews", "reviews"),
            ("audits", "audited"),
            (f"calibration {noun}s", "calibration_labels"),
        )
    ]
    return [
        ("models", _money(cost["models"])),
        *people,
        ("together", _money(cost["total"])),
        ("all items answered by people", _money(cost["all_human"])),
    ]


def _guidelines(text: str) -> str:
    if not text.strip():
        return ""
    return "## Guidelines\n\n" + "\n".join(f"> {_words(line)}".rstrip() for line in text.splitlines())


def _reading(configs: Mapping[str, str], *, is_folder: bool) -> str:
    if is_folder:
        call = 'load_dataset("imagefolder", data_dir="the/unpacked/folder", split="train")'
    elif "default" in configs:
        call = 'load_dataset("the/folder/of/this/file", split="train")'
    else:
        call = f'load_dataset("the/folder/of/this/file", "{next(iter(configs))}", split="train")'
    needs = "\n\nIt needs `datasets` 3.4 or later." if is_folder else ""
    return f"```python\nfrom datasets import load_dataset\n\ndata = {call}\n```{needs}"


def _reading_squad(file: str) -> str:
    opened = f'with open("{file}", encoding="utf-8") as file:\n    articles = json.load(file)["data"]'
    return f"```python\nimport json\n\n{opened}\n```"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    return _words(cell_text(value))


def cell_text(value: Any) -> str:
    """A value of a table as people read it."""
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool) or not isinstance(value, int):
        return str(value)
    return f"{value:,}" if value >= 10_000 else str(value)


def _words(text: str) -> str:
    """Somebody's words as words: no markup, no second line, no further cell."""
    flat = " ".join(text.split())
    return html.escape(flat, quote=False).replace("|", "\\|")


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _money(amount: float | None) -> str:
    return "not known: a model has no price" if amount is None else f"{amount:,.2f}"
