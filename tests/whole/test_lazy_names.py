"""Packages whose public names are loaded when they are first used."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest

import ndframes as nf
from ndframes._lazy import load_lazily


@pytest.mark.parametrize(
    "package", ["ndframes", "ndframes.feed", "ndframes.torch", "ndframes.compat.pvio", "ndframes.compat.stream_infer"]
)
def test_every_name_is_loaded_once_and_others_are_errors(package):
    module = import_module(package)
    assert dir(module) == sorted(module.__all__)
    for name in module.__all__:
        value = getattr(module, name)
        assert vars(module)[name] is value
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'frobnicate'"):
        module.frobnicate  # noqa: B018


def test_a_missing_extra_is_named(monkeypatch):
    load, names = load_lazily("ndframes.torch", ["Sampler"], {"Sampler": "sampler"}, extra="torch")
    assert names() == ["Sampler"]
    monkeypatch.delitem(sys.modules, "ndframes.torch.sampler", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        nf.MissingExtraError, match=r'ndframes.torch.Sampler needs torch: pip install "ndframes\[torch\]"'
    ):
        load("Sampler")


def test_the_lack_of_another_module_is_not_mistaken_for_that_of_the_extra():
    load, _ = load_lazily("ndframes.torch", [], {"Other": "nowhere"}, extra="torch")
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        load("Other")
