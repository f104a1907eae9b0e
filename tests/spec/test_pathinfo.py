"""PathInfo and ChannelInfo: frozen values, normalised when they are made, refused when they cannot be."""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import pathlib
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndframes.errors import ChannelError, NdframesError, PathInfoError
from ndframes.spec.pathinfo import ChannelInfo, PathInfo

FULL = {
    "path": "a.tif",
    "channels": "rgb",
    "img_from_src": np.diag([4, 4, 1]),
    "shape": (20, 30),
    "page": 3,
    "series": 1,
    "nodata": -9999.0,
    "quantization": {"orig_min": 0.0, "orig_max": 1.0, "quant_min": 0, "quant_max": 255, "nodata": None},
    "hashid": "f00d",
    "driver": "VRT",
}
OTHERS = {
    "path": "b.tif", "channels": "r|g", "img_from_src": np.diag([2, 4, 1]), "shape": (20, 31), "page": 4, "series": 2,
    "nodata": math.nan, "quantization": {"orig_min": 1}, "hashid": "beef", "driver": "ENVI",
}  # fmt: skip


class Pathlike:
    def __init__(self, name):
        self.name = name

    def __fspath__(self):
        return self.name


class AffineLike:
    """An object with an attribute ``matrix``, such as ``kwimage.Affine``."""

    def __init__(self, matrix):
        self.matrix = matrix


# -- values -------------------------------------------------------------------------------------------------------


def test_a_channel_info_is_normalised():
    info = ChannelInfo(**FULL)
    assert info.path == "a.tif"
    assert info.channels == ("r", "g", "b")
    assert info.img_from_src == ((4.0, 0.0, 0.0), (0.0, 4.0, 0.0), (0.0, 0.0, 1.0))
    assert info.shape == (20, 30)
    assert (info.page, info.series, info.nodata, info.hashid, info.driver) == (3, 1, -9999.0, "f00d", "VRT")
    assert dict(info.quantization) == FULL["quantization"]
    assert info.matrix.tolist() == np.diag([4.0, 4.0, 1.0]).tolist()
    assert not info.is_aligned


def test_a_bare_channel_info_knows_only_its_path():
    info = ChannelInfo("a.tif")
    assert {item.name: getattr(info, item.name) for item in dataclasses.fields(info)} == {
        "path": "a.tif", **dict.fromkeys(set(FULL) - {"path"}), "pixel_format": None, "frame_errors": "raise",
        "interpolation": None, "orientation": None,
    }  # fmt: skip
    assert info.is_aligned
    assert info.matrix.tolist() == np.eye(3).tolist()


@pytest.mark.parametrize("options", [{"pixel_format": "yuv420p"}, {"frame_errors": "skip"}, {"interpolation": "sinc"}])
def test_how_a_file_is_decoded_and_resampled_is_one_of_a_few(options):
    ((name, value),) = options.items()
    with pytest.raises(PathInfoError, match=f"{name}='{value}'; allowed: "):
        ChannelInfo("a.mp4", **options)


@pytest.mark.parametrize("name", FULL)
def test_every_field_tells_values_apart(name):
    first, again, other = ChannelInfo(**FULL), ChannelInfo(**FULL), ChannelInfo(**{**FULL, name: OTHERS[name]})
    assert first == again
    assert hash(first) == hash(again)
    assert first != other
    assert len({first, again, other}) == 2


@pytest.mark.parametrize("name", FULL)
def test_a_channel_info_is_frozen(name):
    info = ChannelInfo(**FULL)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(info, name, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        delattr(info, name)


@pytest.mark.parametrize("value", [ChannelInfo("a"), PathInfo(1, (ChannelInfo("a"),))])
def test_values_have_slots(value):
    assert not hasattr(value, "__dict__")
    with pytest.raises((AttributeError, TypeError)):
        value.nonsense = 1


def test_the_matrix_is_a_copy():
    info = ChannelInfo("a", img_from_src=np.diag([2, 2, 1]))
    info.matrix[0, 0] = 7
    assert info.matrix[0, 0] == 2
    assert info.matrix.dtype == np.float64


AGAIN = [
    lambda value: pickle.loads(pickle.dumps(value)),
    lambda value: pickle.loads(pickle.dumps(value, protocol=2)),
    copy.copy,
    copy.deepcopy,
    dataclasses.replace,
]


@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize(
    "options", [FULL, {"path": "a"}, {**FULL, "nodata": float("nan")}, {**FULL, "quantization": {"x": float("nan")}}]
)
def test_values_go_round(again, options):
    info = ChannelInfo(**options)
    whole = PathInfo(("scene", 1), [info], shape=(4, 5), default="r", num_frames=2)
    for value in (info, whole):
        other = again(value)
        assert type(other) is type(value)
        assert other == value
        assert hash(other) == hash(value)
        assert repr(other) == repr(value)


def test_pickles_are_small():
    assert len(pickle.dumps(ChannelInfo("a.tif"))) < 120
    assert len(pickle.dumps(PathInfo(1, (ChannelInfo("a.tif"),)))) < 200
    many = [PathInfo(index, (ChannelInfo(f"{index:05d}.tif", channels="r|g|b"),)) for index in range(1000)]
    assert len(pickle.dumps(many)) < 120 * len(many)


def test_the_one_nan_equals_itself():
    infos = {ChannelInfo("a", nodata=value) for value in (float("nan"), np.float32("nan"), np.float64("nan"), math.nan)}
    assert len(infos) == 1


# -- paths --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["a/b.tif", pathlib.Path("a/b.tif"), Pathlike("a/b.tif"), Pathlike(b"a/b.tif")])
def test_a_path_becomes_str(path):
    assert ChannelInfo(path).path == "a/b.tif"
    assert type(ChannelInfo(path).path) is str


@settings(max_examples=100, deadline=None)
# A name that begins with "~" is expanded to a home folder; see the tests of that.
@given(st.binary(min_size=1, max_size=12).filter(lambda name: not name.startswith(b"~")))
def test_any_bytes_of_a_path_survive(name):
    assert os.fsencode(ChannelInfo(Pathlike(name)).path) == name
    assert os.fsencode(pickle.loads(pickle.dumps(ChannelInfo(os.fsdecode(name)))).path) == name


@pytest.mark.parametrize("path", [None, 3, b"a.tif", "", Pathlike(""), Pathlike(b""), ["a"], ("a", "b"), object()])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(PathInfoError, match="a path must be a str or path-like and not empty"):
        ChannelInfo(path)


# -- matrices -----------------------------------------------------------------------------------------------------

TURN = [[0.5, -0.25, 7], [0.25, 0.5, -3], [0, 0, 1]]


@pytest.mark.parametrize(
    "matrix",
    [
        TURN, TURN[:2], np.array(TURN), np.array(TURN)[:2], np.array(TURN, np.float32), tuple(map(tuple, TURN)),
        AffineLike(TURN), AffineLike(np.array(TURN)), np.array(TURN, object), [[Fraction(item) for item in row] for row in TURN],
    ],
)  # fmt: skip
def test_a_matrix_in_any_form_is_the_same_matrix(matrix):
    info = ChannelInfo("a", img_from_src=matrix)
    assert info.matrix.tolist() == TURN
    assert hash(info) == hash(ChannelInfo("a", img_from_src=TURN))
    assert not info.is_aligned


@pytest.mark.parametrize(
    "matrix",
    [None, np.eye(3), np.eye(3)[:2], np.eye(3, dtype=int), -0.0 + np.eye(3), AffineLike(None), np.diag([1, 1, 1.0])],
)
def test_the_identity_is_none(matrix):
    info = ChannelInfo("a", img_from_src=matrix)
    assert info.img_from_src is None
    assert info.is_aligned
    assert info == ChannelInfo("a")


def test_minus_zero_is_zero():
    info = ChannelInfo("a", img_from_src=[[2, -0.0, -0.0], [-0.0, 2, 0]])
    assert not np.signbit(info.matrix).any()
    assert repr(info) == repr(ChannelInfo("a", img_from_src=np.diag([2, 2, 1])))


@pytest.mark.parametrize(
    "matrix",
    [
        "abc", 5, [], [1, 2, 3], np.eye(2), np.eye(4), [[1, 2], [3]], {"a": 1}, object(), np.eye(3) * 1j, [["1"] * 3] * 3,
        [[1, 0, "x"], [0, 1, 0]], [[10**400, 0, 0], [0, 1, 0]], np.zeros((2, 3, 1)), [[None] * 3] * 3,
        np.diag([1, 1, 2]), [[1, 0, 0], [0, 1, 0], [0, 0.1, 1]], np.diag([np.nan, 1, 1]), np.diag([1, np.inf, 1]),
        [[1, 0, np.nan], [0, 1, 0]], [[1, 0, -np.inf], [0, 1, 0]], AffineLike("abc"), np.full((3, 3), True),
    ],
    ids=lambda matrix: repr(matrix).partition(" at 0x")[0][:30],  # the same in each of the processes that share the tests
)  # fmt: skip
def test_what_is_no_affine_matrix_is_refused(matrix):
    with pytest.raises(PathInfoError, match="img_from_src must be a (finite affine )?matrix"):
        ChannelInfo("a", img_from_src=matrix)


@pytest.mark.parametrize(
    "matrix", [np.diag([0, 1, 1]), [[1, 2, 5], [2, 4, 9]], np.zeros((2, 3)), [[0.1, 0.2, 0], [0.3, 0.6, 0]]]
)
def test_a_singular_matrix_is_refused(matrix):
    with pytest.raises(PathInfoError, match="must be invertible"):
        ChannelInfo("a", img_from_src=matrix)


@settings(max_examples=100, deadline=None)
@given(st.floats(-6, 6), st.floats(-170, 170), st.floats(-1e9, 1e9))
def test_any_scale_and_rotation_is_invertible(turn, exponent, shift):
    scale = 10.0**exponent
    matrix = [
        [math.cos(turn) * scale, -math.sin(turn) * scale, shift],
        [math.sin(turn) * scale, math.cos(turn) * scale, 0],
    ]
    assert ChannelInfo("a", img_from_src=matrix).matrix[:2].tolist() == matrix


# -- the other fields ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [(4, 5), [4, 5], np.array([4, 5]), np.zeros((4, 5)).shape, (np.uint8(4), np.int64(5))]
)
def test_a_shape_becomes_two_ints(shape):
    for value in (ChannelInfo("a", shape=shape), PathInfo(1, (ChannelInfo("a"),), shape=shape)):
        assert value.shape == (4, 5)
        assert {type(extent) for extent in value.shape} == {int}


@pytest.mark.parametrize(
    "shape",
    [5, (), (4,), (4, 5, 3), (3, 0), (0, 3), (-1, 3), (4.0, 5.0), (4.5, 5), ("4", "5"), "45", (None, 4), (True, 4),
     (math.nan, 4), (math.inf, 4), {4, 5, 6}, object(), [[4, 5]]],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_is_no_shape_is_refused(shape):
    for make in (lambda: ChannelInfo("a", shape=shape), lambda: PathInfo(1, (ChannelInfo("a"),), shape=shape)):
        with pytest.raises(PathInfoError, match=r"shape must be \(height, width\)"):
            make()


@pytest.mark.parametrize("name", ["page", "series"])
@pytest.mark.parametrize("value", [0, 7, np.int64(7), np.uint8(3)])
def test_pages_and_series_count_from_0(name, value):
    got = getattr(ChannelInfo("a", **{name: value}), name)
    assert got == value
    assert type(got) is int


@pytest.mark.parametrize("name", ["page", "series"])
@pytest.mark.parametrize(
    "value", [-1, True, np.True_, 1.0, 1.5, "1", (1,), math.nan, [0]], ids=lambda value: type(value).__name__
)
def test_what_is_no_page_is_refused(name, value):
    with pytest.raises(PathInfoError, match=f"^{name} (must be 0 or more|must be a whole number)"):
        ChannelInfo("a", **{name: value})


@pytest.mark.parametrize(
    ("value", "expected"), [(0, 0), (-9999, -9999), (np.uint8(255), 255), (np.float32(0.5), 0.5), (math.inf, math.inf)]
)
def test_nodata_is_a_number_of_python_s_own(value, expected):
    got = ChannelInfo("a", nodata=value).nodata
    assert got == expected
    assert type(got) in (int, float)


@pytest.mark.parametrize(
    "value", ["0", "auto", True, np.True_, 1j, (0, 0), [0], object(), b"0"], ids=lambda value: type(value).__name__
)
def test_what_is_no_nodata_is_refused(value):
    with pytest.raises(PathInfoError, match="nodata must be a number or None"):
        ChannelInfo("a", nodata=value)


def test_the_order_of_a_quantization_does_not_matter():
    first = ChannelInfo("a", quantization={"b": 1, "a": 2})
    assert (
        first == ChannelInfo("a", quantization={"a": 2, "b": 1}) == ChannelInfo("a", quantization=[("b", 1), ("a", 2)])
    )
    assert first.quantization == (("a", 2), ("b", 1))


@pytest.mark.parametrize(
    "value",
    [5, "abc", [1, 2], {1: 2, "a": 3}, {1: 2}, {"a": [1]}, {"a": {}}, [("a", 1, 2)], object()],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_quantization_is_refused(value):
    with pytest.raises(PathInfoError, match="quantization must map names to numbers"):
        ChannelInfo("a", quantization=value)


@pytest.mark.parametrize("name", ["hashid", "driver"])
@pytest.mark.parametrize("value", [1, b"x", ["x"], True], ids=lambda value: type(value).__name__)
def test_a_hashid_and_a_driver_are_str(name, value):
    with pytest.raises(PathInfoError, match=f"{name} must be a str or None"):
        ChannelInfo("a", **{name: value})


@pytest.mark.parametrize("channels", ["", "r||g", 5, []])
def test_codes_that_are_none_are_refused(channels):
    with pytest.raises(ChannelError):
        ChannelInfo("a", channels=channels)
    with pytest.raises(ChannelError):
        PathInfo(1, (ChannelInfo("a"),), default=channels)


def test_a_code_names_one_band_of_a_file():
    with pytest.raises(ChannelError, match=r"a\.tif has channel 'g\|r' more than once"):
        ChannelInfo("a.tif", channels="r|g|b|r|g")


# -- PathInfo -----------------------------------------------------------------------------------------------------


def test_a_path_info_is_normalised():
    files = [ChannelInfo("a", channels="rgb"), ChannelInfo("b", channels="nir")]
    info = PathInfo("scene", files, shape=[4, 5], default="nir|r", num_frames=np.int64(3))
    assert (info.image_id, info.channels, info.shape, info.default, info.num_frames) == (
        "scene", tuple(files), (4, 5), ("nir", "r"), 3,
    )  # fmt: skip
    files.clear()
    assert len(info.channels) == 2


@pytest.mark.parametrize("name", ["image_id", "channels", "shape", "default", "num_frames"])
def test_every_field_tells_path_infos_apart(name):
    full = {"image_id": 1, "channels": (ChannelInfo("a"),), "shape": (4, 5), "default": "r", "num_frames": 2}
    other = {"image_id": 2, "channels": (ChannelInfo("b"),), "shape": (4, 6), "default": "g", "num_frames": 3}
    first, again, changed = PathInfo(**full), PathInfo(**full), PathInfo(**{**full, name: other[name]})
    assert first == again
    assert first != changed
    assert len({first, again, changed}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(first, name, None)


@pytest.mark.parametrize(
    "channels",
    [(), [], None, 5, "a.tif", ["a.tif"], (ChannelInfo("a"), "b"), ChannelInfo("a"), {}],
    ids=lambda value: type(value).__name__,
)
def test_a_path_info_needs_files(channels):
    with pytest.raises(ChannelError, match="PathInfo of 7 needs a sequence of at least one ChannelInfo"):
        PathInfo(7, channels)


def test_two_files_cannot_hold_one_code():
    with pytest.raises(ChannelError, match=r"PathInfo of 'scene': its files have channel 'g\|r' more than once"):
        PathInfo("scene", (ChannelInfo("a", channels="rgb"), ChannelInfo("b", channels="nir|g|r")))


def test_many_codes_are_checked_in_no_time():
    info = PathInfo(1, (ChannelInfo("a", channels="x.0:30000"), ChannelInfo("b", channels="y.0:30000")))
    assert sum(len(channel.channels) for channel in info.channels) == 60000


@pytest.mark.parametrize("image_id", [[1], {}, {1}, (1, [2]), np.zeros(2)], ids=lambda value: type(value).__name__)
def test_an_image_id_is_hashable(image_id):
    with pytest.raises(PathInfoError, match="an image id must be hashable"):
        PathInfo(image_id, (ChannelInfo("a"),))


@pytest.mark.parametrize("value", [-1, 1.5, "3", True, [1]], ids=lambda value: type(value).__name__)
def test_what_is_no_number_of_frames_is_refused(value):
    with pytest.raises(PathInfoError, match="num_frames"):
        PathInfo(1, (ChannelInfo("a"),), num_frames=value)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(set(FULL) - {"path"})),
    st.recursive(
        st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=4), st.binary(max_size=3), st.booleans()),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
        max_leaves=9,
    ),
)
def test_any_value_makes_a_hashable_info_or_an_error_of_ours(name, value):
    try:
        info = ChannelInfo("a", **{name: value})
    except NdframesError:
        return
    assert pickle.loads(pickle.dumps(info)) == info
    assert hash(pickle.loads(pickle.dumps(info))) == hash(info)
