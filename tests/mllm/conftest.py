from collections.abc import Iterator

import pytest

from tests.mllm.wire import Wire


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire() as running:
        yield running
