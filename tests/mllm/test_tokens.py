import pytest

from mllm.images import prepare
from mllm.messages import Image
from mllm.tokens import estimate_tokens, image_tokens, tile_count
from tests.mllm.calls import make_request
from tests.mllm.test_images import encoded


@pytest.mark.parametrize(
    ("width", "height", "tiles"),
    [
        (1, 1, 1),
        (512, 512, 1),
        (513, 512, 2),
        (1024, 1024, 4),  # 768 × 768 after scaling
        (2048, 4096, 6),  # 768 × 1536
        (4096, 8192, 6),
        (8192, 64, 4),  # 2048 × 16
    ],
)
def test_tiles(width, height, tiles):
    assert tile_count(width, height) == tiles


def test_an_image_by_its_tiles():
    assert image_tokens(prepare(encoded(1024, 1024))) == 85 + 170 * 4


def test_an_unreadable_image_counts_as_a_middling_one():
    assert image_tokens(Image(b"?", "image/png")) == 85 + 170 * 4


def test_text_counts_a_token_for_four_bytes():
    assert estimate_tokens(make_request("x" * 400, system="")) == 104
    assert estimate_tokens(make_request("x" * 400, system="y" * 40)) == 118


def test_letters_of_three_bytes_count_more():
    assert estimate_tokens(make_request("猫" * 400)) > 2.5 * estimate_tokens(make_request("x" * 400))


def test_parts_images_and_schema_are_added():
    image = prepare(encoded(100, 100))
    plain = estimate_tokens(make_request("x" * 40))
    assert estimate_tokens(make_request("x" * 40, image, image)) == plain + 2 * 255
    assert estimate_tokens(make_request("x" * 40, schema={"type": "string"})) == plain + 5
