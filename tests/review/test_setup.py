import math

import pytest

from annotate.errors import Refusal
from annotate.models import Change
from review.models import ReviewRound
from review.services.audits import audit_round_create
from review.services.raising import round_raise
from review.services.rounds import calibration_round_create, round_close, round_create, round_reopen
from review.setup import RoundSetup
from tests.factories import make_annotation_run, make_criticism_run, make_items, make_project, make_user
from tests.present import present

KINDS = ReviewRound.Kind


def make_run(items: int = 10):
    project = make_project()
    make_items(project, items)
    return make_criticism_run(make_annotation_run(project))


@pytest.mark.parametrize(
    ("fields", "field", "sentence"),
    [
        ({"display": "all"}, "display", "is one of"),
        ({"overlap": 0}, "overlap", "1 to 9 people"),
        ({"overlap": 10, "overlap_share": 1.0}, "overlap", "1 to 9 people"),
        ({"overlap": 3}, "overlap_share", "for what share of the items 3 people"),
        ({"overlap_share": 0.5}, "overlap", "how many people"),
        ({"overlap": 2, "overlap_share": 1.1}, "overlap_share", "between 0 and 1"),
        ({"overlap": 2, "overlap_share": math.nan}, "overlap_share", "between 0 and 1"),
        ({"gold_rate": 0.6}, "gold_rate", "between 0 and 0.5"),
        ({"gold_rate": math.nan}, "gold_rate", "between 0 and 0.5"),
        ({"gold_rate": 0.1, "gold_threshold": 0.0}, "gold_threshold", "above 0"),
        ({"gold_rate": 0.1, "gold_threshold": 1.5}, "gold_threshold", "above 0"),
        ({"gold_threshold": 0.8}, "gold_threshold", "without known items"),
        ({"gold_minimum": 0}, "gold_minimum", "from 1 to"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(fields, field, sentence):
    with pytest.raises(Refusal, match=sentence) as refused:
        RoundSetup(**fields).checked(KINDS.REVIEW)

    assert refused.value.field == field


@pytest.mark.parametrize("kind", [KINDS.CALIBRATION, KINDS.AUDIT])
def test_blind_rounds_are_always_blind(kind):
    assert RoundSetup().checked(kind).display == "blind"
    for display in ("label", "random"):
        with pytest.raises(Refusal, match="always blind"):
            RoundSetup(display=display).checked(kind)


def test_there_are_no_known_items_where_answers_are_written():
    with pytest.raises(Refusal, match="answers are written"):
        RoundSetup(gold_rate=0.1).checked(KINDS.REVIEW, is_written=True)


@pytest.mark.parametrize(
    ("overlap", "share", "items", "further"),
    [(1, 0.0, 100, 0), (2, 0.1, 100, 10), (3, 0.1, 100, 20), (9, 1.0, 4, 32), (2, 0.1, 4, 0), (2, 0.3, 5, 2)],
)
def test_further_readings_are_on_top_of_the_budget(overlap, share, items, further):
    assert RoundSetup(overlap=overlap, overlap_share=share).further_readings(items) == further


@pytest.mark.django_db
class TestRounds:
    def test_every_kind_of_round_keeps_its_setup(self):
        run = make_run()
        project, user = run.annotation_run.project, run.created_by
        setup = RoundSetup(
            display="label", overlap=2, overlap_share=0.5, gold_rate=0.2, gold_threshold=0.7, gold_minimum=5
        )

        round = round_create(run=run, user=user, count=4, setup=setup)
        blind = RoundSetup(overlap=3, overlap_share=1.0)
        calibration = calibration_round_create(project=project, user=user, count=2, setup=blind)
        round_close(round=round, user=user)
        audit = audit_round_create(round=round, user=user, count=2, setup=blind)

        assert RoundSetup.of(ReviewRound.objects.get(pk=round.pk)) == setup
        for other in (calibration, audit):
            assert RoundSetup.of(ReviewRound.objects.get(pk=other.pk)) == RoundSetup("blind", 3, 1.0)

    def test_a_refused_setup_leaves_nothing_behind(self):
        run = make_run()
        for act in (
            lambda setup: round_create(run=run, user=run.created_by, count=4, setup=setup),
            lambda setup: calibration_round_create(
                project=run.annotation_run.project, user=run.created_by, count=4, setup=setup
            ),
        ):
            with pytest.raises(Refusal, match="what share"):
                act(RoundSetup(overlap=2))

        assert not ReviewRound.objects.exists()
        assert not Change.objects.exists()

    def test_changes_of_a_round_are_kept_with_who_made_them(self):
        run = make_run()
        owner, other = run.created_by, make_user()
        round = round_create(run=run, user=owner, count=4)
        round_close(round=round, user=other)
        round_close(round=round, user=owner)  # it is closed already
        round_reopen(round=round, user=owner)
        round_raise(round=round, user=other, count=6)

        changes = Change.objects.filter(subject_id=round.pk).order_by("pk")

        assert [(change.action, change.actor) for change in changes] == [
            ("round created", owner),
            ("round closed", other),
            ("round reopened", owner),
            ("round raised", other),
        ]
        assert present(changes[0].new)["budget"] == 4
        assert (changes[3].old, changes[3].new) == ({"budget": 4}, {"budget": 6})
