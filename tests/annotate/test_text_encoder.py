"""The encoder beside figures that the model's own documentation gives; skipped where its package is not installed."""

import importlib.util

import numpy as np
import pytest

from annotate import text_encoder
from annotate.text_encoder import PACKAGE, EncoderMissing, _words, encode, model_folder

installed = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None, reason="the extra “encoder” is not installed"
)


@installed
def test_vectors_are_those_of_the_model():
    found = encode(["This is an example sentence", "Each sentence is converted"])

    assert found.shape == (2, 384)
    assert found[0, :4] == pytest.approx([6.7657e-02, 6.3496e-02, 4.8713e-02, 7.9305e-02], abs=1e-5)
    assert found[1, :4] == pytest.approx([8.6439e-02, 1.0276e-01, 5.3946e-03, 2.0444e-03], abs=1e-5)


@installed
def test_similar_sentences_are_near():
    happy, dog, very_happy, sunny = encode(
        [
            "That is a happy person",
            "That is a happy dog",
            "That is a very happy person",
            "Today is a sunny day",
        ]
    )

    assert happy @ very_happy == pytest.approx(0.943, abs=0.001)
    assert happy @ dog == pytest.approx(0.695, abs=0.001)
    assert happy @ sunny == pytest.approx(0.257, abs=0.001)


@installed
def test_a_vector_depends_on_its_text_alone_and_long_texts_are_cut():
    long = "word " * 2_000
    together = encode(["", "naïve 語 🙂", long, "ok"])

    assert np.isfinite(together).all()
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    assert together[3].tobytes() == encode(["ok"])[0].tobytes()
    assert together[2].tobytes() == encode([long + "more"])[0].tobytes()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Héllo, WORLD!", ["hello", ",", "world", "!"]),
        ("a$b  c\n", ["a", "$", "b", "c"]),
        ("語言 ok", ["語", "言", "ok"]),
        ("zero\u200bwidth\x00", ["zerowidth"]),
        ("", []),
    ],
)
def test_words(text, words):
    assert list(_words(text)) == words


def test_what_to_install_is_said_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(text_encoder, "PACKAGE", "no_such_package")

    with pytest.raises(EncoderMissing, match="make encoder"):
        model_folder()
    with pytest.raises(EncoderMissing):
        encode(["a"])
