"""The people page, everybody's figures, one's own, and every answer as rows."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from annotate.models import Project, User
from review.figures import (
    KNOWN_AT_A_TIME,
    KnownShare,
    figures_by_person,
    figures_of,
    own_known,
    reviews_by_day,
)
from review.models import Correction, ReviewPause, ReviewRound, ReviewTask
from review.own_work import left_by_project, left_for, own_rounds
from review.services.pauses import pause
from review.services.queue import Answer, answer_undo, task_submit, tasks_claim
from tests.api.caller import call
from tests.factories import (
    label_named,
    make_item,
    make_membership,
    make_reviewable_round,
    make_user,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def rita() -> User:
    return make_user("rita")


@pytest.fixture
def round(rita: User) -> ReviewRound:
    """Six items that the machine calls negative."""
    return make_reviewable_round(items=8, budget=6, owner=make_user("olga"), reviewers=[rita])


def answer(
    round: ReviewRound, user: User, name: str = "negative", *, seconds: float | None = 4.0
) -> ReviewTask:
    (task,) = tasks_claim(round=round, user=user)
    action = "label" if name else "skip"
    label = label_named(round.project, name) if name else None
    task_submit(
        task=task, user=user, answer=Answer(action, label, seconds=seconds, reason="" if name else "odd")
    )
    return task


def people_page(client: Client, project: Project, user: User) -> str:
    client.force_login(user)
    return client.get(f"/projects/{project.pk}/people/").content.decode()


class TestFigures:
    def test_each_person_is_counted_by_themselves_as_it_counts_now(
        self, round: ReviewRound, rita: User
    ) -> None:
        answer(round, rita, seconds=2.0)
        answer(round, rita, "positive", seconds=4.0)
        answer(round, rita, "", seconds=12.0)
        answer(round, rita, "positive")
        answer_undo(round=round, user=rita)
        answer(round, round.created_by, seconds=None)

        figures = figures_by_person(round.project)

        mine = figures[rita.pk]
        assert (mine.answered, mine.skipped, mine.reviewed) == (2, 1, 3)
        assert (mine.compared, mine.changed, mine.changed_share) == (2, 1, 0.5)
        assert mine.median_seconds == 4.0
        assert mine.per_hour == 3600 * 3 / 18.0
        other = figures[round.created_by.pk]
        assert (other.answered, other.per_hour, other.median_seconds) == (1, None, None)

    def test_the_median_of_an_even_number_lies_between_and_a_long_look_counts_as_ten_minutes(
        self, round: ReviewRound, rita: User
    ) -> None:
        for seconds in (1.0, 2.0, 4.0, 7200.0):
            answer(round, rita, seconds=seconds)

        figures = figures_of(round.project, rita)

        assert figures.median_seconds == 3.0
        assert figures.seconds == 607.0

    def test_what_was_answered_blind_is_not_held_against_the_machine(
        self, round: ReviewRound, rita: User
    ) -> None:
        answer(round, rita, "positive")
        ReviewTask.objects.filter(holder=rita).update(arm=ReviewTask.Arm.BLIND)

        assert figures_of(round.project, rita).compared == 0
        assert figures_of(round.project, rita).changed_share is None

    def test_today_and_by_day(self, round: ReviewRound, rita: User) -> None:
        answer(round, rita)
        answer(round, rita)
        before = Correction.objects.earliest("pk")
        Correction.objects.filter(pk=before.pk).update(created_at=timezone.now() - timedelta(days=3))

        today = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
        days = reviews_by_day(round.project, rita)

        assert figures_of(round.project, rita, since=today).answered == 1
        assert [count for _, count in days] == [0] * 10 + [1, 0, 0, 1]
        assert days[-1][0] == timezone.localdate()

    def test_another_projects_answers_are_another_projects(self, round: ReviewRound, rita: User) -> None:
        other = make_reviewable_round(reviewers=[rita])
        answer(other, rita)

        assert figures_by_person(round.project) == {}

    def test_own_accuracy_on_known_items_is_told_some_at_a_time(self, round: ReviewRound, rita: User) -> None:
        for number in range(2 * KNOWN_AT_A_TIME - 1):
            item = make_item(round.project, gold="positive")
            task = ReviewTask.objects.create(
                round=round,
                item=item,
                rank=0,
                copy=number,
                purpose=ReviewTask.Purpose.GOLD,
                is_counted=False,
                assigned_to=rita,
                state=ReviewTask.State.ANSWERED,
                holder=rita,
            )
            task.correction = Correction.objects.create(
                task=task,
                action="label",
                label=label_named(round.project, "negative" if number == 1 else "positive"),
                author=rita,
            )
            task.save()
            told = own_known(round.project, rita)
            if number < KNOWN_AT_A_TIME - 1:
                assert told is None
            else:
                assert told == KnownShare(KNOWN_AT_A_TIME, KNOWN_AT_A_TIME - 1)


class TestPage:
    def test_members_their_figures_and_who_left(self, round: ReviewRound, rita: User, client: Client) -> None:
        answer(round, rita, "positive")
        gone = make_membership(round.project, make_user("gone")).user
        answer(round, gone)
        round.project.memberships.get(user=gone).delete()

        page = people_page(client, round.project, round.created_by)

        assert "rita" in page
        assert "100%" in page
        assert "not a member any more" in page
        assert Correction.objects.filter(author=gone).exists()

    def test_members_are_added_changed_and_removed(self, round: ReviewRound, client: Client) -> None:
        project, grace = round.project, make_user("grace")
        client.force_login(project.created_by)
        url = f"/projects/{project.pk}/people/members/"
        client.post(url, {"username": "grace", "role": "reviewer"})
        member = project.memberships.get(user=grace)
        client.post(f"{url}{member.pk}/role/", {"role": "manager"})
        member.refresh_from_db()
        assert member.role == "manager"

        client.post(f"{url}{member.pk}/delete/")

        assert not project.memberships.filter(user=grace).exists()

    def test_an_unknown_account_is_named_at_its_field(self, round: ReviewRound, client: Client) -> None:
        client.force_login(round.created_by)
        url = f"/projects/{round.project_id}/people/members/"
        sent = client.post(url, {"username": "nobody", "role": "reviewer"})

        assert sent.status_code == 422
        assert "There is no account named “nobody”" in sent.content.decode()

    def test_the_last_owner_stays(self, round: ReviewRound, client: Client) -> None:
        client.force_login(round.created_by)
        member = round.project.memberships.get(user=round.created_by)
        url = f"/projects/{round.project_id}/people/members/{member.pk}/delete/"

        assert "A project needs an owner" in client.post(url, follow=True).content.decode()

    def test_an_owner_who_leaves_is_sent_to_the_projects(self, round: ReviewRound, client: Client) -> None:
        make_membership(round.project, make_user(), "owner")
        client.force_login(round.created_by)
        member = round.project.memberships.get(user=round.created_by)
        sent = client.post(f"/projects/{round.project_id}/people/members/{member.pk}/delete/")

        assert sent.headers["Location"] == "/"

    def test_managers_are_offered_what_they_may_do(self, round: ReviewRound, client: Client) -> None:
        project = round.project
        mona = make_membership(project, make_user("mona"), "manager").user
        page = people_page(client, project, mona)
        owner = project.memberships.get(user=project.created_by)
        reviewer = project.memberships.get(user__username="rita")

        assert f"/people/members/{reviewer.pk}/role/" in page
        assert f"/people/members/{owner.pk}/role/" not in page
        assert f"/people/members/{owner.pk}/delete/" not in page
        assert '<option value="owner"' not in page
        refused = client.post(
            f"/projects/{project.pk}/people/members/{owner.pk}/role/", {"role": "viewer"}, follow=True
        )
        assert "Only an owner of the project changes the role of an owner." in refused.content.decode()

    def test_viewers_see_the_people_and_no_link(self, round: ReviewRound, client: Client) -> None:
        project = round.project
        client.force_login(project.created_by)
        url = f"/projects/{project.pk}/people/invitations/"
        made = client.post(
            url, {"role": "reviewer", "most_uses": 2, "days": 3, "note": "For Ruth"}, follow=True
        )
        viewer = make_membership(project, make_user(), "viewer").user
        page = people_page(client, project, viewer)

        assert "/join/" in made.content.decode()
        assert "rita" in page
        assert "/join/" not in page
        assert "For Ruth" not in page

    def test_an_invitation_without_people_is_refused_at_its_field(
        self, round: ReviewRound, client: Client
    ) -> None:
        client.force_login(round.created_by)
        url = f"/projects/{round.project_id}/people/invitations/"

        assert client.post(url, {"role": "reviewer", "most_uses": 0, "days": 3}).status_code == 422
        assert not round.project.invitations.exists()

    def test_an_invitation_is_revoked(self, round: ReviewRound, client: Client) -> None:
        client.force_login(round.created_by)
        url = f"/projects/{round.project_id}/people/invitations/"
        client.post(url, {"role": "reviewer", "most_uses": 2, "days": 3})
        invitation = round.project.invitations.get()
        client.post(f"{url}{invitation.pk}/revoke/")
        page = people_page(client, round.project, round.created_by)

        assert "Revoked" in page
        assert "/join/" not in page


class TestOwnWork:
    def test_what_is_left_is_what_they_may_answer(self, round: ReviewRound, rita: User) -> None:
        bob = make_membership(round.project, make_user("bob")).user
        first, second, third, *_ = round.tasks.order_by("rank")
        ReviewTask.objects.filter(pk=first.pk).update(assigned_to=bob)
        ReviewTask.objects.filter(pk=second.pk).update(
            state="leased", holder=bob, lease_until=timezone.now() + timedelta(minutes=5)
        )
        ReviewTask.objects.filter(pk=third.pk).update(
            state="leased", holder=bob, lease_until=timezone.now() - timedelta(minutes=5)
        )

        assert left_for(round, rita) == 4
        assert left_for(round, bob) == 6

    def test_a_second_reading_is_not_left_for_whoever_did_the_first(
        self, round: ReviewRound, rita: User
    ) -> None:
        task = answer(round, rita)
        ReviewTask.objects.create(round=round, item=task.item, rank=task.rank, copy=1, is_counted=False)

        assert left_for(round, rita) == 5
        assert left_for(round, round.created_by) == 6

    def test_closed_rounds_are_no_work(self, round: ReviewRound, rita: User) -> None:
        assert [(own.left, own.done) for own in own_rounds(round.project, rita)] == [(6, 0)]
        ReviewRound.objects.update(state=ReviewRound.State.CLOSED)
        assert own_rounds(round.project, rita) == []

    def test_the_list_of_projects_says_what_is_left_for_its_reader(
        self, round: ReviewRound, rita: User, client: Client
    ) -> None:
        done_with = make_reviewable_round(owner=round.created_by, reviewers=[rita])
        ReviewRound.objects.filter(pk=done_with.pk).update(state=ReviewRound.State.CLOSED)
        answer(round, rita)
        answer(round, round.created_by)
        client.force_login(rita)
        page = client.get("/").content.decode()

        assert left_by_project([round.project, done_with.project], rita) == {round.project_id: 4}
        assert "4 items wait for you" in page
        assert page.count("Nothing waits for you") == 1
        assert "Steps" not in page
        assert "Connect a" not in page

    def test_nothing_is_left_while_they_pause(self, round: ReviewRound, rita: User) -> None:
        pause(round=round, user=rita, by=round.created_by)

        assert left_by_project([round.project], rita) == {}
        assert left_by_project([round.project], round.created_by) == {round.project_id: 6}


class TestReviewersOverview:
    def test_it_is_about_them_alone(self, round: ReviewRound, rita: User, client: Client) -> None:
        bob = make_membership(round.project, make_user("bob")).user
        answer(round, rita, "positive")
        answer(round, bob, "")
        client.force_login(rita)
        page = client.get(f"/projects/{round.project_id}/").content.decode()

        assert "4 items wait for you" in page
        assert "Go on reviewing" in page
        assert "Your latest answers" in page
        assert page.count('<td class="wrap-anywhere" data-title="Your answer">positive</td>') == 1
        for others in (
            "bob",
            "accuracy",
            "Skipped",
            "Certificate",
            "Pipeline",
            "Criticism",
            '/review-rounds/1/"',
        ):
            assert others not in page, others

    def test_a_pause_is_said_and_nothing_is_offered(
        self, round: ReviewRound, rita: User, client: Client
    ) -> None:
        ReviewPause.objects.create(round=round, user=rita, reason="Read the guidelines again.")
        client.force_login(rita)
        page = client.get(f"/projects/{round.project_id}/").content.decode()

        assert "Read the guidelines again." in page
        assert "/work/" not in page

    def test_without_rounds_it_says_so(self, rita: User, client: Client) -> None:
        round = make_reviewable_round(reviewers=[rita])
        ReviewRound.objects.update(state=ReviewRound.State.CLOSED)
        client.force_login(rita)

        assert "Nothing to review yet" in client.get(f"/projects/{round.project_id}/").content.decode()

    def test_managers_who_review_see_their_own_too(self, round: ReviewRound, client: Client) -> None:
        client.force_login(round.created_by)
        url = f"/projects/{round.project_id}/"
        assert "Your own reviews" not in client.get(url).content.decode()
        answer(round, round.created_by)
        assert "Your own reviews" in client.get(url).content.decode()

    def test_the_api_says_the_same(self, round: ReviewRound, rita: User) -> None:
        answer(round, rita, "positive", seconds=6.0)
        figures = call(rita, "get", f"projects/{round.project_id}/my-figures/")

        assert figures["total"] == {
            "answered": 1,
            "skipped": 0,
            "changed_share": 1.0,
            "median_seconds": 6.0,
            "per_hour": 600.0,
        }
        assert figures["today"] == figures["total"]
        assert figures["known"] is None
        assert figures["by_day"][-1]["reviews"] == 1
        assert figures["rounds"] == [{"id": round.pk, "kind": "review", "left": 5, "done": 1, "paused": None}]


class TestAnswers:
    def test_every_answer_is_a_row_with_what_was_said_before(
        self, round: ReviewRound, rita: User, client: Client
    ) -> None:
        answer(round, rita, "positive", seconds=2.5)
        answer_undo(round=round, user=rita)
        answer(round, rita, "negative")
        rows = call(round.created_by, "get", f"projects/{round.project_id}/corrections/")["results"]

        said = [(row["action"], row["old"], row["new"], row["author"]) for row in reversed(rows)]
        assert said == [
            ("label", "", "positive", "rita"),
            ("undo", "positive", "", "rita"),
            ("label", "", "negative", "rita"),
        ]
        assert rows[-1]["seconds"] == 2.5
        assert rows[-1]["arm"] == "criticism"
        assert rows[-1]["shown"]["machine_label"] == label_named(round.project, "negative").pk
        client.force_login(round.created_by)
        response = client.get(f"/projects/{round.project_id}/people/answers.csv")
        lines = b"".join(response.streaming_content).decode().splitlines()  # type: ignore[attr-defined]
        assert len(lines) == 4
        assert lines[0].startswith("id,time,person,round,task,purpose,item,action,old,new,reason,seconds")
        assert ",label,,positive,,2.5," in lines[1]

    def test_answers_are_filtered(self, round: ReviewRound, rita: User) -> None:
        task = answer(round, rita)
        answer(round, round.created_by)
        address = f"projects/{round.project_id}/corrections/"

        def count(query: str) -> int:
            return len(call(round.created_by, "get", f"{address}{query}")["results"])

        assert count("") == 2
        assert count("?author=rita") == 1
        assert count(f"?item={task.item_id}") == 1
        assert count(f"?round={round.pk}") == 2
        assert count("?author=nobody") == 0
