"""The tree of errors: as it is drawn, as it pickles, as it speaks."""

from __future__ import annotations

import builtins
import copy
import errno
import pickle
import re

import numpy as np
import pytest

from ndframes import errors
from ndframes.errors import (
    CacheError,
    CacheFullError,
    ImageIdError,
    MissingExtraError,
    NdframesError,
    PrepareError,
    RegionError,
    SourceMissingError,
    UnreadableImageError,
    naming_image,
    shorten,
)

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, NdframesError)]


def drawn_tree() -> dict[str, tuple[str | None, str | None]]:
    """Name -> (parent, builtin or None), parsed from the tree in the docstring of the module."""
    tree: dict[str, tuple[str | None, str | None]] = {}
    above: list[tuple[int, str]] = []
    for line in errors.__doc__.splitlines():
        match = re.match(
            r"^(?P<indent>[ │├└─]*)(?P<name>[A-Z]\w*(?:Error|Died))(?: \((?P<builtin>\w+)\))?(?:\s{2,}\S|$)", line
        )
        if match is None:
            continue
        depth = len(match["indent"])
        above = [(at, name) for at, name in above if at < depth]
        tree[match["name"]] = (above[-1][1] if above else None, match["builtin"])
        above.append((depth, match["name"]))
    return tree


def test_the_tree_is_the_one_that_is_drawn():
    real = {}
    for cls in CLASSES:
        parents = [base.__name__ for base in cls.__bases__ if issubclass(base, NdframesError)]
        others = [base.__name__ for base in cls.__bases__ if not issubclass(base, NdframesError)]
        assert len(parents) <= 1
        assert len(others) <= 1
        real[cls.__name__] = (parents[0] if parents else None, others[0] if parents and others else None)
    assert drawn_tree() == real
    assert len(real) > 20


def test_every_error_is_named_in_all_and_says_what_it_is():
    assert {cls.__name__ for cls in CLASSES} == {name for name in errors.__all__ if name.endswith(("Error", "Died"))}
    assert all(cls.__doc__.strip() for cls in CLASSES)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_leaf_is_a_fitting_builtin(cls):
    if cls is not NdframesError:
        fitting = [base for base in cls.__mro__ if base.__module__ == "builtins"]
        assert set(fitting) - {Exception, BaseException, object}


@pytest.mark.parametrize("again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_pickles_with_its_attributes(cls, again):
    error = cls("the file is\nnot there")
    error.image_id = ("scene", 3)
    error.report = {"failed": 2}
    error.add_note("seen on a Monday") if hasattr(error, "add_note") else None
    other = again(error)
    assert type(other) is cls
    assert other.args == error.args
    assert str(other) == str(error) == "image ('scene', 3): the file is\nnot there"
    assert vars(other) == vars(error)
    assert isinstance(other, drawn_builtin(cls))


def drawn_builtin(cls: type) -> type:
    """The builtin that the tree shows for the class or for its nearest ancestor."""
    name: str | None = cls.__name__
    tree = drawn_tree()
    while name is not None:
        parent, builtin = tree[name]
        if builtin:
            return getattr(builtins, builtin)
        name = parent
    return Exception


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if issubclass(cls, OSError)], ids=lambda cls: cls.__name__)
def test_a_system_error_keeps_its_number_through_a_pickle(cls):
    error = cls("no space")
    error.errno = errno.ENOSPC
    error.filename = "/a/b.tif"
    other = pickle.loads(pickle.dumps(error))
    assert (other.errno, other.filename, str(other)) == (errno.ENOSPC, "/a/b.tif", "no space")


def test_an_error_of_two_arguments_is_what_the_system_would_make():
    other = pickle.loads(pickle.dumps(CacheFullError(errno.ENOSPC, "no space", "/a/b.tif")))
    assert (other.errno, other.strerror, other.filename) == (errno.ENOSPC, "no space", "/a/b.tif")
    assert str(other) == f"{errno.ENOSPC} no space"


def test_an_import_error_keeps_its_name():
    error = MissingExtraError("pip install ndframes[dask]", name="distributed")
    assert pickle.loads(pickle.dumps(error)).name == "distributed"


def test_a_prepare_error_has_no_report_unless_it_is_given_one():
    assert PrepareError("x").report is None


def test_a_key_error_speaks_without_the_quotes_of_repr():
    assert str(ImageIdError("no image 'q'")) == "no image 'q'"


@pytest.mark.parametrize("image_id", [0, "", "scene", (1, "a"), b"x"])
def test_naming_image_names_it_once(image_id):
    error = RegionError("too far")
    with pytest.raises(RegionError) as caught, naming_image("outer"), naming_image(image_id):
        raise error
    assert caught.value is error
    assert str(error) == f"image {image_id!r}: too far"


def test_naming_image_leaves_unknown_ids_and_foreign_errors_alone():
    with pytest.raises(ImageIdError, match=r"^no image 'q'$"), naming_image("q"):
        raise ImageIdError("no image 'q'")
    with pytest.raises(ZeroDivisionError) as caught, naming_image("q"):
        1 / 0  # noqa: B018
    assert not hasattr(caught.value, "image_id")


def test_naming_one_error_does_not_name_its_class():
    with pytest.raises(CacheError), naming_image(1):
        raise CacheError("x")
    assert CacheError("y").image_id is None
    assert str(UnreadableImageError("y")) == "y"
    assert SourceMissingError("z").errno is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, "3"),
        ("r|g", "'r|g'"),
        (slice(0, 5), "slice(0, 5, None)"),
        (None, "None"),
        (10**5000, "<a whole number of 16610 bits>"),
        ([1, 2], "[1, 2]"),
    ],
    ids=["number", "text", "slice", "none", "unprintable", "list"],
)
def test_shorten_is_repr_where_that_is_short(value, expected):
    assert shorten(value) == expected


class _Mute:
    def __repr__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10**6,
        list(range(10**6)),
        np.zeros(10**6),
        10**3000,
        slice(10**5000, None),
        [10**5000],
        {1: 10**5000},
        _Mute(),
    ],
    ids=["text", "list", "array", "number", "slice", "nested", "mapping", "mute"],
)
def test_shorten_is_short_whatever_comes(value):
    assert 0 < len(shorten(value)) <= 250
