import ast
from pathlib import Path

import pytest

import mllm
from mllm.addresses import AddressError
from mllm.registry import PROVIDERS, ConnectionSettings, build
from tests.mllm.calls import KEY, make_settings


@pytest.mark.parametrize("provider", PROVIDERS)
def test_what_is_told_of_a_provider_is_what_its_adapter_has(provider, tmp_path):
    adapter = build(ConnectionSettings(provider, options={"runtime_dir": str(tmp_path)}))
    assert adapter.name == provider
    assert adapter.capabilities == PROVIDERS[provider].capabilities


def test_an_unknown_provider():
    with pytest.raises(ValueError, match="no provider named “nobody”"):
        build(ConnectionSettings("nobody"))


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_private_base_url_is_refused_unless_allowed(provider):
    with pytest.raises(AddressError, match="private network"):
        build(make_settings(provider, "http://127.0.0.1:9", allow_private=False))
    build(make_settings(provider, "http://127.0.0.1:9", allow_private=True))


def test_keys_are_in_no_representation():
    settings = make_settings("openai", "http://127.0.0.1:9", options={"token": KEY})
    assert KEY not in repr(settings)
    assert KEY not in repr(build(settings))


def test_this_room_knows_neither_django_nor_the_other_rooms():
    forbidden = {"django", "jobs", "annotate", "criticize", "review", "route", "config", "celery"}
    for file in Path(mllm.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not {name.split(".")[0] for name in names} & forbidden, file
