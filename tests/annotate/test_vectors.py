from array import array
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from django.db import OperationalError

from annotate import text_encoder, vectors
from annotate.errors import Refusal
from annotate.models import Connection, Item, ItemVector, Project, VectorVersion
from annotate.vectors import (
    FACTS,
    PLAIN,
    VectorChoice,
    ensure_vectors,
    item_facts,
    make_vectors,
    newest_version,
    vectors_of,
)
from jobs.models import Job, KeptAnswer
from jobs.running import run_to_end
from mllm.errors import CallError, Failure
from mllm.messages import EmbeddingRequest, Embeddings
from tests.conftest import Provider
from tests.factories import make_connection, make_image, make_item, make_items, make_project, png_bytes

pytestmark = pytest.mark.django_db

COLORS = ("teal", "red", "navy", "orange", "black", "white")


def ids_of(project: Project) -> list[int]:
    return list(project.items.order_by("pk").values_list("pk", flat=True))


def made(project: Project, choice: VectorChoice = PLAIN, **options) -> VectorVersion:
    """The version after its job has run."""
    version = ensure_vectors(project, choice, user=project.created_by, **options)
    run_to_end(version.job_id)
    version.refresh_from_db()
    version.job.refresh_from_db()
    return version


def embeddings(vectors: list[list[float]], tokens: int = 10) -> Embeddings:
    return Embeddings(
        "", "", "e-2026", "stop", tokens, 0, 0, (), 0.1, vectors=tuple(array("f", one) for one in vectors)
    )


def by_length(request) -> Embeddings:
    """A vector of each text that tells its length, and a token a text."""
    assert isinstance(request, EmbeddingRequest)
    return embeddings([[len(text), 1.0, -0.5] for text in request.texts], tokens=len(request.texts))


def embedding_choice(project: Project, **fields) -> VectorChoice:
    connection = make_connection(project.created_by, in_flight=2)
    options: dict[str, Any] = {
        "kind": "embeddings",
        "connection": connection,
        "model": "text-embedding-3-small",
    }
    return VectorChoice(**options | fields)


def assert_counters(job: Job, *, done: int, failed: int = 0) -> None:
    job.refresh_from_db()
    assert (job.done, job.failed) == (done, failed)


class TestPlain:
    def test_every_item_gets_one_and_the_job_counts_them(self):
        project = make_project()
        make_items(project, 60)

        version = made(project)

        assert version.job.state == Job.State.DONE
        assert_counters(version.job, done=60)
        ids = ids_of(project)
        found = vectors_of(project, ids)
        assert found.shape == (60, version.width)
        assert found.dtype == np.float32
        assert len(np.unique(found, axis=0)) > 40  # words of one digit do not count

    def test_they_come_in_the_order_of_the_ids_and_as_often(self):
        project = make_project()
        make_items(project, 12)
        made(project)
        ids = ids_of(project)
        straight = vectors_of(project, ids)

        turned = vectors_of(project, [*ids[::-1], ids[0]])

        assert turned.tobytes() == np.vstack([straight[::-1], straight[:1]]).tobytes()

    def test_items_that_come_later_get_theirs_in_the_same_way(self):
        project = make_project()
        make_items(project, 12)
        version = made(project)
        before = vectors_of(project, ids_of(project))
        copy = make_item(project, text=project.items.order_by("pk")[0].text)

        again = made(project)

        assert again.pk == version.pk
        assert again.digest == version.digest
        assert_counters(again.job, done=13)
        assert vectors_of(project, [copy.pk]).tobytes() == before[:1].tobytes()

    def test_nothing_is_made_twice(self):
        project = make_project()
        make_items(project, 5)
        version = made(project)
        rows = set(ItemVector.objects.values_list("pk", "recorded_at"))

        assert ensure_vectors(project, user=project.created_by).job.state == Job.State.DONE

        assert set(ItemVector.objects.values_list("pk", "recorded_at")) == rows
        assert VectorVersion.objects.get() == version

    def test_made_anew_there_is_another_version_and_the_older_one_stays(self):
        project = make_project()
        make_items(project, 5)
        old = made(project)
        make_items(project, 5)

        new = made(project, anew=True)

        assert new.pk != old.pk
        assert new.digest != old.digest
        assert newest_version(project, PLAIN) == new
        ids = ids_of(project)
        assert len(vectors_of(project, ids)) == 10
        assert len(vectors_of(project, ids[:5], old)) == 5
        with pytest.raises(Refusal, match="5 of 10 items have no vector"):
            vectors_of(project, ids, old)

    def test_the_same_items_and_seed_give_the_same_version(self):
        digests = set()
        for _ in range(2):
            project = make_project(seed=7)
            for number in range(8):
                make_item(project, text=f"word{number} word{number % 3}")
            digests.add(made(project).digest)
        assert len(digests) == 1

    def test_images_and_questions_are_in_them(self):
        project = make_project("closed_vqa")
        for number, color in enumerate(COLORS):
            image = make_image(project, png_bytes(color, (9, 7 + number)))
            make_item(project, image=image, question=f"What is {color}?")

        version = made(project, VectorChoice(components=4))

        found = vectors_of(project, ids_of(project), VectorChoice(components=4))
        assert found.shape[1] == version.width > 4
        assert len(np.unique(found, axis=0)) == len(COLORS)

    def test_an_image_that_cannot_be_read_is_a_named_failure_and_can_be_tried_again(self):
        project = make_project("image_classification")
        items = [make_item(project, image=make_image(project, png_bytes(color))) for color in COLORS]
        broken = items[2].image
        assert broken is not None
        name = broken.file.name
        broken.file.name = "images/none.png"
        broken.save()

        version = made(project)

        assert version.job.state == Job.State.DONE
        assert_counters(version.job, done=6, failed=1)
        with pytest.raises(Refusal, match=r"1 of 6 items.*cannot be read"):
            vectors_of(project, ids_of(project))
        broken.file.name = name
        broken.save()
        again = made(project)
        assert_counters(again.job, done=6)
        assert len(vectors_of(project, ids_of(project))) == 6

    def test_items_that_nothing_tells_apart_stop_the_job_with_a_sentence(self):
        project = make_project()
        for _ in range(3):
            make_item(project, text="the same")

        version = made(project)

        assert version.job.state == Job.State.PAUSED
        assert "tell them apart" in version.job.reason
        make_items(project, 3)
        assert made(project).job.state == Job.State.DONE

    def test_more_items_than_are_fitted_on_are_sampled(self, monkeypatch):
        monkeypatch.setattr(vectors, "MOST_FITTED", 10)
        project = make_project()
        make_items(project, 30)

        version = made(project)

        assert version.width <= 10
        assert len(vectors_of(project, ids_of(project))) == 30

    def test_a_paused_job_stops_and_goes_on_where_it_was(self, monkeypatch, settings):
        settings.WRITE_BATCH = 5
        project = make_project()
        make_items(project, 20)
        version = ensure_vectors(project, user=project.created_by)
        write = vectors.write_rows

        def write_once(*args):
            Job.objects.filter(pk=version.job_id).update(state=Job.State.PAUSED)
            return write(*args)

        monkeypatch.setattr("annotate.vectors_work.write_rows", write_once)
        run_to_end(version.job_id)
        assert ItemVector.objects.count() == 5
        monkeypatch.undo()

        version = made(project)

        assert_counters(version.job, done=20)
        assert len(vectors_of(project, ids_of(project))) == 20


class TestNow:
    def test_a_database_without_room_pauses_the_job_and_it_goes_on(self, monkeypatch):
        project = make_project()
        make_items(project, 6)

        def no_room(*args: Any, **options: Any) -> None:
            raise OperationalError("database or disk is full")

        with monkeypatch.context() as full:
            full.setattr("annotate.vectors.ItemVector.objects.bulk_create", no_room)
            version = made(project)
        assert (version.job.state, version.job.failure) == (Job.State.PAUSED, "disk_full")
        assert "Free some space there, then go on." in version.job.reason
        assert not version.vectors.exists()

        assert made(project) == version
        assert_counters(version.job, done=6)

    def test_they_are_made_at_once_without_a_worker(self):
        project = make_project()
        make_items(project, 8)
        ids = ids_of(project)
        calls: list[int] = []

        version = make_vectors(project, ids[:6], user=project.created_by, between=lambda: calls.append(1))

        assert len(vectors_of(project, ids[:6], version)) == 6
        assert calls
        assert make_vectors(project, ids, user=project.created_by).pk == version.pk
        assert len(vectors_of(project, ids)) == 8
        assert ensure_vectors(project, user=project.created_by).pk == version.pk

    def test_embeddings_are_not_bought_in_passing(self, provider: Provider):
        project = make_project()
        make_items(project, 2)
        choice = embedding_choice(project)
        with pytest.raises(Refusal, match="not complete"):
            make_vectors(project, ids_of(project), choice, user=project.created_by)
        provider(by_length)
        version = made(project, choice)
        assert make_vectors(project, ids_of(project), choice, user=project.created_by) == version

    def test_nothing_to_learn_from_is_refused(self):
        project = make_project()
        make_item(project, text="!")
        with pytest.raises(Refusal, match="tell them apart"):
            make_vectors(project, ids_of(project), user=project.created_by)


class TestReading:
    def test_what_is_not_there_is_said(self):
        project = make_project()
        items = make_items(project, 3)
        with pytest.raises(Refusal, match="Start making them"):
            vectors_of(project, ids_of(project))
        version = made(project)
        items.append(make_item(project))
        with pytest.raises(Refusal, match=r"1 of 4 items have no vector yet\. Make them"):
            vectors_of(project, ids_of(project))
        with pytest.raises(Refusal, match="no such vectors"):
            vectors_of(make_project(), ids_of(project), version)

    def test_what_is_no_number_is_never_handed_out(self):
        project = make_project()
        items = make_items(project, 3)
        version = made(project)
        broken = np.full(version.width, np.nan, dtype="<f4").tobytes()
        ItemVector.objects.filter(item=items[1]).update(vector=broken)
        with pytest.raises(Refusal, match=f"“{items[1].external_id}” holds what is no number"):
            vectors_of(project, ids_of(project))
        ItemVector.objects.filter(item=items[1]).update(vector=b"1234")
        with pytest.raises(Refusal, match="different lengths"):
            vectors_of(project, ids_of(project))

    def test_no_ids_give_no_rows(self):
        project = make_project()
        make_items(project, 3)
        version = made(project)
        assert vectors_of(project, []).shape == (0, version.width)


class TestEmbeddings:
    def test_texts_are_asked_about_together_and_paid_once(self, provider: Provider, monkeypatch):
        monkeypatch.setattr("annotate.vectors_work.TEXTS_A_CALL", 4)
        project = make_project()
        items = make_items(project, 10)
        adapter = provider(by_length)
        choice = embedding_choice(project)

        version = made(project, choice)

        assert [len(request.parts) for request in adapter.requests] == [4, 4, 2]
        assert version.job.state == Job.State.DONE
        assert_counters(version.job, done=10)
        assert version.job.input_tokens == 10
        assert version.job.cost == Decimal("0.00000020")
        found = vectors_of(project, ids_of(project), choice)
        assert found.tolist() == [[len(item.text), 1.0, -0.5] for item in items]
        assert made(project, choice).job.cost == version.job.cost
        assert len(adapter.requests) == 3
        assert not KeptAnswer.objects.exists()

    def test_one_text_that_is_refused_costs_the_others_nothing(self, provider: Provider):
        project = make_project()
        make_items(project, 5)
        make_item(project, text="too long")

        def script(request):
            if "too long" in request.texts:
                return CallError(Failure.TOO_LARGE, "The item is too large for this model.")
            return by_length(request)

        provider(script)

        version = made(project, embedding_choice(project))

        assert version.job.state == Job.State.DONE
        assert_counters(version.job, done=6, failed=1)
        failure = ItemVector.objects.exclude(failure="").get()
        assert (failure.item.text, failure.failure) == ("too long", "too_large")

    def test_failures_are_tried_again_when_asked(self, provider: Provider):
        project = make_project()
        make_items(project, 3)
        choice = embedding_choice(project)
        provider(lambda request: CallError(Failure.TIMED_OUT, "slow"))
        assert_counters(made(project, choice).job, done=3, failed=3)
        adapter = provider(by_length)

        version = made(project, choice)

        assert_counters(version.job, done=3)
        assert len(adapter.requests) == 1
        assert len(vectors_of(project, ids_of(project), choice)) == 3

    def test_a_wrong_key_pauses_and_what_was_paid_stays(self, provider: Provider, monkeypatch):
        monkeypatch.setattr("annotate.vectors_work.TEXTS_A_CALL", 2)
        project = make_project()
        make_items(project, 6)
        connection = make_connection(project.created_by, in_flight=1)
        choice = embedding_choice(project, connection=connection)
        answers = iter(["good"])

        def script(request):
            if next(answers, None):
                return by_length(request)
            return CallError(Failure.AUTHENTICATION, "The provider does not accept the key.")

        provider(script)
        version = made(project, choice)
        assert version.job.state == Job.State.PAUSED
        assert "key" in version.job.reason
        assert ItemVector.objects.count() == 2
        adapter = provider(by_length)

        version = made(project, choice)

        assert version.job.state == Job.State.DONE
        assert_counters(version.job, done=6)
        assert sum(len(request.parts) for request in adapter.requests) == 4

    def test_vectors_of_another_length_are_named(self, provider: Provider, monkeypatch):
        monkeypatch.setattr("annotate.vectors_work.TEXTS_A_CALL", 1)
        project = make_project()
        items = make_items(project, 3)
        provider(lambda request: embeddings([[1.0, 2.0] if request.texts[0] != items[2].text else [1.0]]))

        version = made(project, embedding_choice(project))

        assert_counters(version.job, done=3, failed=1)
        assert "2 numbers" in ItemVector.objects.exclude(failure="").get().message

    def test_an_item_without_text_is_named_and_not_sent(self, provider: Provider):
        project = make_project()
        make_items(project, 2)
        make_item(project, text="  ")
        adapter = provider(by_length)

        version = made(project, embedding_choice(project))

        assert_counters(version.job, done=3, failed=1)
        assert all(text.strip() for request in adapter.requests for text in request.parts)  # type: ignore[union-attr]

    def test_images_are_beside_the_embedded_question(self, provider: Provider):
        project = make_project("closed_vqa")
        for color in COLORS:
            make_item(project, image=make_image(project, png_bytes(color)), question=f"Is it {color}?")
        provider(by_length)
        choice = embedding_choice(project)

        version = made(project, choice)

        found = vectors_of(project, ids_of(project), choice)
        assert found.shape == (6, version.width)
        assert version.width > 3
        assert found[0, 0] == len("Is it teal?")
        assert len(np.unique(found[:, 3:], axis=0)) == 6

    def test_a_spend_limit_holds(self, provider: Provider, monkeypatch):
        monkeypatch.setattr("annotate.vectors_work.TEXTS_A_CALL", 1)
        project = make_project()
        make_items(project, 10, text="word " * 4_000)
        provider(lambda request: embeddings([[1.0, 2.0]], tokens=5_000))  # US$ 0.0001 a call
        choice = embedding_choice(project)

        version = made(project, choice, spend_limit=Decimal("0.0005"))

        assert version.job.state == Job.State.PAUSED
        assert version.job.failure == "spend_limit"
        assert Decimal(0) < version.job.cost <= Decimal("0.0005")
        with pytest.raises(Refusal, match="higher"):
            ensure_vectors(project, choice, user=project.created_by)
        version = made(project, choice, spend_limit=Decimal(1))
        assert version.job.state == Job.State.DONE

    def test_a_deleted_connection_pauses_and_another_one_goes_on(self, provider: Provider):
        project = make_project()
        make_items(project, 2)
        provider(by_length)
        choice = embedding_choice(project)
        version = ensure_vectors(project, choice, user=project.created_by)
        Connection.objects.all().delete()
        run_to_end(version.job_id)
        version.job.refresh_from_db()
        assert version.job.state == Job.State.PAUSED
        assert "deleted" in version.job.reason

        assert made(project, embedding_choice(project)).job.state == Job.State.DONE
        assert VectorVersion.objects.count() == 1

    def test_long_texts_are_cut_and_the_question_comes_first(self, provider: Provider):
        project = make_project("extractive_qa", labels=())
        make_item(project, text="x" * 50_000, question="Why?")
        adapter = provider(by_length)

        made(project, embedding_choice(project))

        [text] = adapter.requests[0].parts
        assert isinstance(text, str)
        assert text.startswith("Why?\n\nxxx")
        assert len(text) == 20_000


class TestLocal:
    def test_the_encoder_makes_them(self, monkeypatch):
        monkeypatch.setattr(text_encoder, "model_folder", lambda: None)
        monkeypatch.setattr(
            text_encoder,
            "encode",
            lambda texts: np.array([[len(text), 1] for text in texts], dtype=np.float32),
        )
        project = make_project()
        items = make_items(project, 3)
        choice = VectorChoice("local")

        version = made(project, choice)

        assert version.width == 2
        assert vectors_of(project, ids_of(project), choice)[:, 0].tolist() == [
            len(item.text) for item in items
        ]

    def test_it_is_refused_with_what_to_install_where_it_is_missing(self, monkeypatch):
        monkeypatch.setattr(text_encoder, "PACKAGE", "no_such_package")
        project = make_project()
        make_item(project)
        with pytest.raises(Refusal, match="make encoder"):
            ensure_vectors(project, VectorChoice("local"), user=project.created_by)


class TestChoices:
    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"kind": "guess"}, "kind"),
            ({"components": 0}, "components"),
            ({"kind": "embeddings"}, "connection"),
        ],
    )
    def test_a_choice_that_cannot_be_made_is_refused(self, fields, field):
        project = make_project()
        make_item(project)
        with pytest.raises(Refusal) as refusal:
            ensure_vectors(project, VectorChoice(**fields), user=project.created_by)
        assert refusal.value.field == field
        assert not VectorVersion.objects.exists()

    def test_what_the_provider_or_the_task_has_not_is_refused(self):
        project = make_project()
        make_item(project)
        user = project.created_by
        anthropic = make_connection(user, provider="anthropic")
        with pytest.raises(Refusal, match="offers no embeddings"):
            ensure_vectors(project, VectorChoice("embeddings", anthropic, "e"), user=user)
        with pytest.raises(Refusal, match="Name the embeddings model"):
            ensure_vectors(project, embedding_choice(project, model=" "), user=user)
        choice = embedding_choice(project, model="unheard-of")
        with pytest.raises(Refusal, match="no price"):
            ensure_vectors(project, choice, user=user, spend_limit=Decimal(1))
        with pytest.raises(Refusal, match="more than US"):
            ensure_vectors(project, embedding_choice(project), user=user, spend_limit=Decimal(0))
        images = make_project("image_classification")
        make_item(images)
        with pytest.raises(Refusal, match="no texts"):
            ensure_vectors(images, embedding_choice(images), user=images.created_by)

    def test_items_of_others_and_no_items_are_refused(self):
        project = make_project()
        with pytest.raises(Refusal, match="no items"):
            ensure_vectors(project, user=project.created_by)
        make_item(project)
        other = make_item(make_project())
        with pytest.raises(Refusal, match="not of this project"):
            ensure_vectors(project, user=project.created_by, item_ids=[other.pk])

    def test_the_same_provider_and_model_are_the_same_choice_whoever_is_connected(self):
        project = make_project()
        first, second = embedding_choice(project), embedding_choice(project)
        assert first.digest == second.digest
        elsewhere = make_connection(project.created_by, base_url="http://127.0.0.1:1/v1")
        others = [
            embedding_choice(project, connection=elsewhere),
            embedding_choice(project, model="text-embedding-3-large"),
            PLAIN,
            VectorChoice(components=10),
        ]
        assert len({first.digest, *(choice.digest for choice in others)}) == 5

    def test_only_the_items_asked_for_are_made(self):
        project = make_project()
        make_items(project, 6)
        some = ids_of(project)[:2]
        version = made(project, item_ids=some)
        assert set(version.vectors.values_list("item_id", flat=True)) == set(some)


def test_facts_are_lengths_and_sizes():
    project = make_project("closed_vqa")
    image = make_image(project, png_bytes(size=(20, 10)))
    make_item(project, image=image, question="What is it?")
    Item.objects.update(text="A fine day")

    facts = item_facts(list(project.items.select_related("image")))

    # "A" is a word of one letter, and those are not counted.
    assert dict(zip(FACTS, facts[0].tolist(), strict=True)) == {
        "characters of the text": 10,
        "words of the text": 2,
        "characters of the question": 11,
        "words of the question": 3,
        "image width in pixels": 20,
        "image height in pixels": 10,
        "image width / height": 2,
    }
    assert item_facts([]).shape == (0, len(FACTS))
