import io

import pytest
from django.core.files.storage import default_storage
from django.test import Client
from django.urls import reverse
from PIL import Image as PillowImage

from annotate import thumbnails
from annotate.models import Item
from annotate.services.projects import project_delete
from tests.factories import make_image, make_item, make_project, png_bytes
from tests.present import present

pytestmark = pytest.mark.django_db


def shown(client: Client, item: Item, **headers: str):
    client.force_login(item.project.created_by)
    return client.get(reverse("item_thumbnail", args=[item.project_id, item.pk]), headers=headers)


def size_of(response) -> tuple[int, int]:
    with PillowImage.open(io.BytesIO(b"".join(response.streaming_content))) as image:
        return image.size


def test_a_large_image_is_shown_small_and_made_once(client: Client, monkeypatch):
    project = make_project("image_classification")
    image = make_image(project, png_bytes(size=(1600, 800)))
    first, second = make_item(project, image=image), make_item(project, image=image)

    assert size_of(shown(client, first)) == (thumbnails.SIDE, thumbnails.SIDE // 2)
    monkeypatch.setattr(thumbnails, "prepare", None)  # a second one could not be made
    response = shown(client, second)
    assert size_of(response) == (320, 160)
    assert shown(client, second, if_none_match=response.headers["ETag"]).status_code == 304


def test_a_small_image_is_shown_as_it_is(client: Client):
    project = make_project("image_classification")
    item = make_item(project, image=make_image(project, png_bytes(size=(28, 28))))

    assert size_of(shown(client, item)) == (28, 28)
    assert item.image is not None
    sha256 = item.image.sha256
    assert not default_storage.exists(f"thumbnails/{project.pk}/{sha256[:2]}/{sha256}.png")


def test_an_image_whose_file_is_gone_is_not_found(client: Client):
    project = make_project("image_classification")
    item = make_item(project, image=make_image(project, png_bytes(size=(700, 700))))
    default_storage.delete(str(present(item.image).file.name))
    assert shown(client, item).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_thumbnails_go_with_their_project(client: Client):
    project = make_project("image_classification")
    item = make_item(project, image=make_image(project, png_bytes(size=(700, 700))))
    shown(client, item).close()
    folder = f"thumbnails/{project.pk}"
    assert default_storage.exists(folder)

    project_delete(project=project, confirm_name=project.name)
    assert not default_storage.exists(folder)
