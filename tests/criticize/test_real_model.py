"""Log-probabilities of a real model, the small one, where the extra is installed."""

import math
from pathlib import Path

import pytest

from annotate.prompts import ItemContent, LabelSpec
from criticize.methods import METHODS
from criticize.prompts import Question
from mllm.registry import ConnectionSettings
from tests.mllm.calls import complete
from tests.mllm.test_gguf import MODEL, needs_extra


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> ConnectionSettings:
    folder: Path = tmp_path_factory.mktemp("gguf")
    return ConnectionSettings(
        "gguf", timeout=120.0, max_in_flight=1, options={"runtime_dir": str(folder), "context": 2048}
    )


@needs_extra
@pytest.mark.parametrize("strategy", ["naive_logit", "cot_logit", "cot_ppl"])
def test_the_small_model_is_read(strategy: str, connection: ConnectionSettings) -> None:
    question = Question(
        task_type="text_classification",
        strategy=strategy,
        answer_format="structured",
        model=MODEL,
        item=ItemContent(text="What a lovely, sunny day. J’adore ça 😀"),
        labels=[LabelSpec("negative"), LabelSpec("positive")],
        label=LabelSpec("negative"),
        max_tokens=600,
    )
    method = METHODS[strategy]

    [reply] = complete(connection, method.ask(question))
    reading = method.read(reply, "structured")

    if reply.finish_reason == "length":  # a model this small may reason without end
        assert reading.priority is None
        return
    assert reading.problem == "", reply.text
    assert reading.priority is not None
    if strategy == "cot_ppl":
        assert math.isfinite(reading.priority)
        assert 0 < abs(reading.priority) <= 1
    else:
        assert 0 <= (reading.error_prob or 0.0) <= 1
        assert reading.answer_token is not None
        assert len(reply.logprobs[reading.answer_token].top) == 20
