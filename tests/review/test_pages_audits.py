"""The pages and the API of audits, certificates and data cards."""

import json
import re

import pytest
from django.test import Client
from django.urls import reverse

from jobs.running import run_to_end
from review.models import Export, ReviewRound
from review.services.exports import export_create
from review.services.rounds import round_reopen
from tests.api.caller import Caller, content_of
from tests.factories import (
    make_audit_round,
    make_export,
    make_image,
    make_items,
    make_membership,
    make_project,
    make_reviewable_round,
    make_user,
)
from tests.review.test_audits import answer_all, reviewed_round
from tests.review.test_data_card import drawn_round

pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true"}


def page(client: Client, name: str, *args: int, **options: str) -> str:
    response = client.get(reverse(name, args=args), options)
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


@pytest.fixture
def round(client: Client) -> ReviewRound:
    round = reviewed_round(40, 10, wrong=5)
    client.force_login(round.created_by)
    return round


def address(round: ReviewRound) -> str:
    return reverse("review_round_audits", args=[round.project_id, round.pk])


class TestPage:
    def test_before_an_audit_it_says_what_is_missing_and_offers_one(self, client, round):
        text = page(client, "review_round_audits", round.project_id, round.pk)

        assert "nobody has audited" in text
        assert "Draw the audit" in text
        assert 'value="30"' in text  # of the usual 200 only so many are left
        assert "whisker-accent" in text

    def test_the_preview_says_what_a_size_would_bring(self, client, round):
        text = page(client, "audit_preview", round.project_id, round.pk, count="20")
        assert "Auditing 20 of 30 items puts the accuracy" in text
        assert re.search(r"±\d+\.\d%", text)

    @pytest.mark.parametrize(
        ("count", "sentence"),
        [("", "Enter how many"), ("x", "whole number"), ("0", "at least one"), ("31", "At most 30 items")],
    )
    def test_a_size_that_is_none_is_answered_with_a_sentence(self, client, round, count, sentence):
        assert sentence in page(client, "audit_preview", round.project_id, round.pk, count=count)
        response = client.post(address(round), {"count": count})
        assert sentence in response.content.decode()
        assert not round.audits.exists()

    def test_an_audit_is_drawn_labelled_and_certified(self, client, round):
        response = client.post(address(round), {"count": "12"})

        audit = round.audits.get()
        assert response.headers["Location"] == reverse("review_round", args=[round.project_id, audit.pk])
        text = page(client, "review_round", round.project_id, audit.pk)
        assert "12 of 30 unreviewed items, drawn at random with seed 42" in text
        assert address(round) in text
        screen = page(client, "review", round.project_id, audit.pk)
        assert "An audit: you label without" in screen
        assert "It counts as wrong in the certificate" in screen
        assert "calibration" not in screen.lower()
        assert 'id="machine"' not in screen
        assert "more can be drawn" in page(client, "review_round_audits", round.project_id, round.pk)

        answer_all(audit)
        for name, args in (
            ("review_round_audits", (round.pk,)),
            ("review_round", (round.pk,)),
            ("project", ()),
        ):
            text = page(client, name, round.project_id, *args)
            assert "Machine alone: " in text
            assert "Final labels: " in text
            assert "Of the 30 items that nobody reviewed 12 were drawn at random" in text
        assert "Extend the audit" in page(client, "review_round_audits", round.project_id, round.pk)
        assert "See the certificate" in page(client, "review", round.project_id, audit.pk)

    def test_an_open_round_is_to_be_finished_first(self, client):
        round = make_reviewable_round(6, 2)
        client.force_login(round.created_by)

        assert "Finish or close the round first" in page(
            client, "review_round_audits", round.project_id, round.pk
        )
        response = client.post(address(round), {"count": "2"})
        assert "Finish or close the round first" in response.content.decode()
        assert not round.audits.exists()

    def test_viewers_see_the_certificate_and_draw_nothing(self, client, round):
        viewer = make_user()
        make_membership(round.project, viewer, "viewer")
        client.force_login(viewer)
        answer_all(make_audit_round(round, 12))

        assert "Final labels: " in page(client, "project", round.project_id)
        assert "Draw the audit" not in page(client, "review_round_audits", round.project_id, round.pk)
        assert client.post(address(round), {"count": "2"}).status_code == 403
        preview = reverse("audit_preview", args=[round.project_id, round.pk])
        assert client.get(preview, {"count": "2"}).status_code == 403

    def test_strangers_and_other_rounds_find_nothing(self, client, round):
        audit = make_audit_round(round, 2)
        assert client.get(address(audit)).status_code == 404
        client.force_login(make_user())
        assert client.get(address(round)).status_code == 404

    def test_the_page_asks_the_database_a_few_times_for_each_audit(
        self, client, round, django_assert_max_num_queries
    ):
        for _ in range(4):
            answer_all(make_audit_round(round, 2))
        with django_assert_max_num_queries(35):
            client.get(address(round))


class TestApi:
    def test_an_audit_is_drawn_and_certified(self, round):
        client = Caller(round.created_by)
        certificate = reverse("api:review_round_certificate", kwargs={"round_id": round.pk})
        audits = reverse("api:review_round_audits", kwargs={"round_id": round.pk})

        before = client.get(certificate).json()
        reply = client.post(audits, {"count": 12, "seed": 3})

        assert before["certificate"] is None
        assert "nobody has audited" in before["missing"]
        assert reply.status_code == 201
        made = reply.json()
        assert (made["kind"], made["audited"], made["budget"], made["seed"]) == ("audit", round.pk, 12, 3)
        assert (made["population"], made["extends"]) == (30, None)
        answer_all(round.audits.get())
        said = client.get(certificate).json()
        assert said["missing"] == ""
        assert said["certificate"]["audited"] == 12
        final = said["certificate"]["final_accuracy"]
        assert 0 < final["low"] <= final["share"] <= final["high"] <= 1
        extension = client.post(audits, {"count": 2}).json()
        assert extension["extends"] == made["id"]
        assert [each["id"] for each in client.get(audits).json()["results"]] == [extension["id"], made["id"]]

    def test_what_cannot_be_drawn_is_a_problem_at_its_value(self, round):
        client = Caller(round.created_by)
        audits = reverse("api:review_round_audits", kwargs={"round_id": round.pk})

        too_many = client.post(audits, {"count": 31})
        assert too_many.status_code == 400
        assert "At most 30 items" in too_many.json()["errors"]["count"][0]
        assert client.post(audits, {}).status_code == 400
        round_reopen(round=round, user=round.created_by)
        assert client.post(audits, {"count": 0}).json()["errors"]["count"]

    def test_an_export_with_its_card(self, round):
        client = Caller(round.created_by)
        exports = reverse("api:exports", kwargs={"project_id": round.project_id})

        bare = client.post(exports, {"round": round.pk}).json()
        made = client.post(exports, {"round": round.pk, "with_card": True}).json()

        assert (bare["with_card"], bare["filename"].endswith(".csv")) == (False, True)
        assert (made["with_card"], made["filename"].endswith(".zip")) == (True, True)
        card = reverse("api:export_card", kwargs={"export_id": made["id"]})
        assert client.get(card).status_code == 409
        run_to_end(Export.objects.get(pk=made["id"]).job_id)
        assert client.get(card).json() == Export.objects.get(pk=made["id"]).card
        download = client.get(reverse("api:export_download", kwargs={"export_id": made["id"]}))
        assert content_of(download)[:2] == b"PK"

    def test_a_folder_of_texts_is_refused(self, round):
        exports = reverse("api:exports", kwargs={"project_id": round.project_id})
        reply = Caller(round.created_by).post(exports, {"round": round.pk, "format": "imagefolder"})
        assert reply.status_code == 400
        assert "Only a project with images" in reply.json()["errors"]["format"][0]


class TestExportPages:
    def test_the_page_offers_the_card_first_and_image_folders_to_images_alone(self, client, round):
        text = page(client, "exports", round.project_id)
        assert re.search(r'name="with_card"[^>]* checked', text)
        assert "imagefolder" not in text

        project = make_project("image_classification", ["a", "b"], owner=round.created_by)
        make_items(project, 4, image=make_image(project))
        drawn_round(4, 1, project=project)
        assert 'value="imagefolder"' in page(client, "exports", project.pk)

    def test_the_form_makes_an_archive(self, client, round):
        form = {"round": round.pk, "layout": "wide", "format": "jsonl", "lam": "1", "with_card": "on"}
        client.post(reverse("exports", args=[round.project_id]), form)
        export = round.exports.get()
        assert export.with_card
        run_to_end(export.job_id)

        download = client.get(reverse("export_download", args=[round.project_id, export.pk]))

        assert download.headers["Content-Type"] == "application/zip"
        assert download.headers["Content-Disposition"].endswith('.zip"')
        card = reverse("export_card", args=[round.project_id, export.pk])
        assert card in page(client, "exports", round.project_id)
        text = page(client, "export_card", round.project_id, export.pk)
        for section in ("Certificate", "What ran", "Items and reviews", "Cost", "Columns"):
            assert f">{section}</h2>" in text
        assert "machine_weight" in text
        export.refresh_from_db()
        assert json.loads(client.get(card, {"as": "json"}).content) == export.card
        readme = client.get(card, {"as": "readme"})
        assert readme.headers["Content-Type"].startswith("text/markdown")
        assert readme.content.decode().startswith("---\n")

    def test_without_a_file_there_is_no_card(self, client, round):
        export = make_export(round)
        assert client.get(reverse("export_card", args=[round.project_id, export.pk])).status_code == 404

    def test_only_owners_read_cards(self, client, round):
        export = export_create(round=round, user=round.created_by)
        run_to_end(export.job_id)
        reviewer = make_user()
        make_membership(round.project, reviewer)
        client.force_login(reviewer)
        assert client.get(reverse("export_card", args=[round.project_id, export.pk])).status_code == 403
