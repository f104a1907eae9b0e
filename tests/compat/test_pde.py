"""py-pde's MovieStorage over ours: rows D1 to D9 of its features, its files in both directions, and what it lacks."""

from __future__ import annotations

import errno
import inspect
import json
import logging
import shlex
import shutil
import signal
import subprocess
import sys
import warnings

import av
import numpy as np
import pytest

import ndframes as nf
from tests.kit.forking import in_fork
from tests.kit.pde_files import FORMATS, truncate, write_like_pde

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pde
    from pde.storage.base import StorageBase, StorageTracker

    from ndframes.compat.pde import MovieStorage

# py-pde and its dependencies use deprecated names of each other.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{category}")
    for category in ("DeprecationWarning", "FutureWarning", "UserWarning", "PendingDeprecationWarning")
]

HAS_PROGRAM = shutil.which("ffmpeg") is not None
BITS = {name: 8 if form[3] == 255 else 16 for name, form in FORMATS.items()}
CONTAINERS = ["avi", "mkv", "mov"]


def make_field(grid, rank=0, seed=0, **keywords):
    kind = {0: pde.ScalarField, 1: pde.VectorField, 2: pde.Tensor2Field}[rank]
    return kind.random_uniform(grid, rng=np.random.default_rng(seed), **keywords)


def make_collection(grid, count, seed=0, labels=None):
    labels = labels or [None] * count
    return pde.FieldCollection([make_field(grid, seed=seed + n, label=label) for n, label in enumerate(labels)])


def write(path, fields, times=None, **keywords):
    storage = MovieStorage(path, **keywords)
    storage.start_writing(fields[0])
    for number, field in enumerate(fields):
        storage.append(field, number if times is None else times[number])
    storage.end_writing()
    return storage


def stored_metadata(path):
    with av.open(str(path)) as container:
        (comment,) = [value for key, value in container.metadata.items() if key.lower() == "comment"]
    return json.loads(shlex.split(comment)[0])


def metadata_of(field, **others):
    return {"field_attributes": field.attributes_serialized, "vmin": 0, "vmax": 1, "dt": 0.5, "t_start": 2, **others}


def largest_error(found, expected):
    return max(np.abs(one.data - other.data).max() for one, other in zip(found, expected, strict=True))


# -- D1: the constructor ----------------------------------------------------------------------------------------------


def test_the_constructor_is_that_of_py_pde(tmp_path):
    ours, theirs = (inspect.signature(each).parameters for each in (MovieStorage, pde.MovieStorage))
    assert list(ours) == list(theirs)
    assert {name: each.default for name, each in ours.items()} == {name: each.default for name, each in theirs.items()}
    assert [each.kind for each in ours.values()] == [each.kind for each in theirs.values()]
    assert issubclass(MovieStorage, StorageBase)
    storage = MovieStorage(tmp_path / "a.avi", vmax=[1, 2], info={"a": 1})
    assert (storage.vmin, storage.vmax, storage.info, storage.write_mode) == (0, [1, 2], {"a": 1}, "truncate_once")
    assert (storage.filename, storage._filename_times) == (tmp_path / "a.avi", tmp_path / "a.avi.times")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("container", [*CONTAINERS, "mp4"])
def test_the_container_follows_from_the_name(tmp_path, container):
    path = tmp_path / f"a.{container}"
    write(path, [make_field(pde.UnitGrid([6, 4]))])
    with av.open(str(path)) as opened:
        names = opened.format.name
    assert {"avi": "avi", "mkv": "matroska"}.get(container, "mov") in names.split(",")
    assert sorted(tmp_path.iterdir()) == [path]
    with pytest.raises(nf.MovieFormatError, match=r"\.gif"):
        write(tmp_path / "a.gif", [make_field(pde.UnitGrid([6, 4]))])


def test_without_py_pde_the_error_names_the_installation():
    code = "import sys; sys.modules['pde'] = None; import ndframes.compat.pde"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'MissingExtraError: ndframes.compat.pde needs py-pde: pip install "py-pde' in done.stderr


def test_ndframes_does_not_import_py_pde():
    code = "import sys, ndframes.movie.storage; assert 'pde' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# -- D2: limits --------------------------------------------------------------------------------------------------------


def test_limits_are_those_of_each_field_and_its_components(tmp_path):
    grid = pde.UnitGrid([5, 4])
    fields = pde.FieldCollection([make_field(grid), 10 * make_field(grid, 1, 1) - 5, 0.1 * make_field(grid, 0, 2)])
    storage = write(tmp_path / "a.mkv", [fields], vmin=[0, -5, 0], vmax=[1, 5, 0.1])
    found = [(norm.vmin, norm.vmax) for norm in storage._norms]
    assert found == [(0, 1), (-5, 5), (-5, 5), (0, 0.1)]
    reader = MovieStorage(tmp_path / "a.mkv")
    for one, other, span in zip(reader[0], fields, (1, 10, 0.1), strict=True):
        assert type(one) is type(other)
        assert np.abs(one.data - other.data).max() <= 0.5001 * span / 65535
    assert (reader.vmin, reader.vmax) == ([0, -5, 0], [1, 5, 0.1])
    assert [(norm.vmin, norm.vmax) for norm in reader._norms] == found


def test_too_few_limits_and_empty_ranges_are_errors(tmp_path):
    fields = make_collection(pde.UnitGrid([5]), 3)
    with pytest.raises(nf.MovieGridError, match="3 fields"):
        write(tmp_path / "a.avi", [fields], vmax=[1, 2])
    with pytest.raises(nf.MovieError, match="below"):
        write(tmp_path / "a.avi", [fields], vmax=[1, 0, 1])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bits", [8, 16])
def test_values_outside_are_cut_and_reported_once_wherever_they_are(tmp_path, caplog, bits):
    """py-pde looks at the first component of the first frame only."""
    grid = pde.UnitGrid([4, 3])
    fields = [make_field(grid, 1) for _ in range(4)]
    fields[2].data[1, 2, 1], fields[2].data[1, 0, 0], fields[3].data[0, 0, 0] = 7, -7, 7
    with caplog.at_level(logging.WARNING):
        write(tmp_path / "a.avi", fields, bits_per_channel=bits)
    (message,) = [record.getMessage() for record in caplog.records]
    assert "outside range" in message
    assert "2 values" in message
    assert "t=2" in message
    reader = MovieStorage(tmp_path / "a.avi")
    for number, field in enumerate(fields):
        assert np.abs(reader[number].data - field.data.clip(0, 1)).max() <= 0.5001 / (2**bits - 1)


def test_nan_becomes_the_lower_limit_and_is_reported(tmp_path, caplog):
    field = make_field(pde.UnitGrid([4, 3]))
    field.data[1, 2] = np.nan
    write(tmp_path / "a.avi", [field], vmin=-1)
    assert "1 values were cut" in caplog.text
    assert MovieStorage(tmp_path / "a.avi")[0].data[1, 2] == -1


# -- D3: formats -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [1, 7, 8, 9, 16])
def test_the_smallest_format_is_that_of_py_pde(tmp_path, channels, bits):
    from pde.tools.ffmpeg import find_format

    path = tmp_path / "a.avi"
    fields = make_collection(pde.UnitGrid([5, 3]), channels)
    write(path, [fields], bits_per_channel=bits)
    found = stored_metadata(path)["video_format"]
    assert found == find_format(channels, bits)
    assert np.abs(MovieStorage(path)[0].data - fields.data).max() <= 0.5001 / (2 ** BITS[found] - 1)


@pytest.mark.parametrize("video_format", FORMATS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_every_format_in_every_container(tmp_path, video_format, container):
    path = tmp_path / f"a.{container}"
    for shape in ([7], [6, 4], [1, 1]):
        for channels in range(1, FORMATS[video_format][2] + 1):
            fields = [make_collection(pde.UnitGrid(shape), channels, seed) for seed in range(3)]
            write(path, fields, video_format=video_format)
            reader = MovieStorage(path)
            assert len(reader) == 3
            assert largest_error(reader, fields) <= 0.5001 / (2 ** BITS[video_format] - 1)


def test_formats_that_do_not_hold_the_fields_are_errors(tmp_path):
    grid = pde.UnitGrid([4])
    with pytest.raises(nf.MovieFormatError, match="'auto', 'gray'"):
        write(tmp_path / "a.avi", [make_field(grid)], video_format="yuv420p")
    with pytest.raises(nf.MovieFormatError, match="gray do not hold"):
        write(tmp_path / "a.avi", [make_collection(grid, 2)], video_format="gray")
    with pytest.raises(NotImplementedError, match="complex"):
        write(tmp_path / "a.avi", [make_field(grid, dtype=complex)], video_format="rgb24")
    with pytest.raises(nf.MovieError, match="up to 64"):
        write(tmp_path / "a.avi", [make_field(grid)], bits_per_channel=65)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("video_format", ["gray", "rgb24", "gray16le"])
def test_a_player_shows_the_field_with_the_first_axis_as_rows(tmp_path, video_format):
    """py-pde's own files show the memory of another shape."""
    channels = FORMATS[video_format][2]
    fields = make_collection(pde.UnitGrid([12, 5]), channels)
    path = tmp_path / "a.avi"
    write(path, [fields], video_format=video_format)
    with av.open(str(path)) as container:
        (frame,) = container.decode(video=0)
        picture = frame.to_ndarray(format="rgb24", threads=1)
    shown = np.moveaxis(fields.data * 255, 0, 2)
    assert np.abs(picture - (shown if channels == 3 else shown.repeat(3, 2))).max() <= 1.5


# -- D4: accuracy, in a real simulation --------------------------------------------------------------------------------


class Reaction(pde.PDEBase):
    """Two concentrations that diffuse and turn into each other."""

    def evolution_rate(self, state, t=0):
        u, v = state
        return pde.FieldCollection([0.2 * self._spread(u) + 0.1 * (v - u), 0.1 * self._spread(v) + 0.2 * (u - v)])

    def _spread(self, field):
        neighbours = sum(np.roll(field.data, step, axis) for axis in (0, 1) for step in (1, -1))
        return pde.ScalarField(field.grid, neighbours - 4 * field.data)


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
@pytest.mark.parametrize("container", ["mkv", "mov"])
def test_a_simulation_is_stored_within_half_a_level_and_without_bias(tmp_path, bits, container):
    grid = pde.CartesianGrid([[0, 32], [0, 24]], [32, 24], periodic=True)
    state = pde.FieldCollection([make_field(grid, 0, 1, label="u"), make_field(grid, 0, 2, label="v")])
    equation = Reaction()
    truth, storage = pde.MemoryStorage(), MovieStorage(tmp_path / f"a.{container}", bits_per_channel=bits)
    equation.solve(state, t_range=4.9, dt=0.05, backend="numpy", tracker=[truth.tracker(0.5), storage.tracker(0.5)])
    reader = MovieStorage(tmp_path / f"a.{container}")
    np.testing.assert_allclose(reader.times, np.arange(10) / 2)
    expected = np.array(truth.data)
    assert reader.data.shape == expected.shape
    if bits > 16:
        assert np.array_equal(reader.data, expected.astype(f"f{bits // 8}"))
        assert reader.times.tolist() == list(truth.times)
        return
    errors = (reader.data - expected) * (2**bits - 1)
    assert np.abs(errors).max() <= 0.5001
    assert abs(errors.mean()) < 0.02
    assert errors.std() > 0.2  # levels were used: the data are not constant


# -- D5: writing -------------------------------------------------------------------------------------------------------


def test_writing_begins_and_ends_once(tmp_path, caplog):
    field = make_field(pde.UnitGrid([5, 4]))
    storage = MovieStorage(tmp_path / "a.mkv", info={"a": 1})
    with pytest.raises(RuntimeError, match="start_writing"):
        storage.append(field, 0)
    storage.start_writing(field, info={"b": 2})
    assert len(storage) == 0
    assert storage.times.tolist() == []
    with pytest.raises(RuntimeError, match="already"):
        storage.start_writing(field)
    storage.append(field)
    storage.append(field)
    assert storage.times.tolist() == [0, 1]
    assert len(storage) == storage.info["num_frames"] == 2
    assert largest_error([storage[0]], [field]) <= 0.5001 / 65535  # while it is written
    with pytest.raises(nf.MovieError, match="not in the file yet"):
        storage[1]
    with pytest.raises(ValueError, match="Grids incompatible"):
        storage.append(make_field(pde.UnitGrid([4, 5])), 2)
    storage.end_writing()
    assert not caplog.records
    storage.end_writing()
    assert "already terminated" in caplog.text
    with pytest.raises(RuntimeError, match="start_writing"):
        storage.append(field, 2)
    info = MovieStorage(tmp_path / "a.mkv")
    assert len(info) == 2
    assert (info.info["a"], info.info["b"]) == (1, 2)


def test_a_grid_of_three_axes_is_refused(tmp_path):
    with pytest.raises(RuntimeError, match="3 axes"):
        write(tmp_path / "a.avi", [make_field(pde.UnitGrid([2, 3, 4]))])


@pytest.mark.parametrize("mode", ["readonly", "reading"])
def test_read_only_modes_leave_the_file_alone(tmp_path, mode):
    path, field = tmp_path / "a.avi", make_field(pde.UnitGrid([5]))
    write(path, [field])
    old = path.read_bytes()
    with pytest.raises(RuntimeError, match=mode):
        MovieStorage(path, write_mode=mode).start_writing(field)
    assert path.read_bytes() == old
    assert len(MovieStorage(path, write_mode=mode)) == 1
    with pytest.raises(ValueError, match="'truncate_once'"):
        MovieStorage(path, write_mode="w").start_writing(field)


def test_truncating_modes_begin_anew(tmp_path):
    path, grid = tmp_path / "a.avi", pde.UnitGrid([5])
    first, second = make_field(grid), make_field(pde.UnitGrid([6, 2]), 1)
    storage = MovieStorage(path, write_mode="truncate")
    for fields in ([first] * 3, [second], [first] * 2):
        storage.start_writing(fields[0])
        for number, field in enumerate(fields):
            storage.append(field, number)
        storage.end_writing()
        assert len(storage) == len(MovieStorage(path)) == len(fields)
        assert largest_error(storage, fields) <= 0.5001 / 65535
    write(path, [second])
    assert len(MovieStorage(path)) == 1


def test_files_for_py_pde_cannot_be_continued_and_movies_of_ndframes_can(tmp_path):
    fields = [make_field(pde.UnitGrid([5, 3]), seed=seed) for seed in range(5)]
    storage = write(tmp_path / "a.avi", fields[:2])  # then in the mode "append"
    old = (tmp_path / "a.avi").read_bytes()
    with pytest.raises(NotImplementedError, match="truncate"):
        storage.start_writing(fields[0])
    assert (tmp_path / "a.avi").read_bytes() == old
    path, times = tmp_path / "b.mkv", [0, 0.1, 0.3, 1, 7]
    storage = write(path, fields[:2], times[:2], bits_per_channel=64)
    for number in (2, 3):
        storage.start_writing(fields[0])
        storage.append(fields[number], times[number])
        storage.end_writing()
    write(path, fields[4:], times[4:], bits_per_channel=64, write_mode="append")
    reader = MovieStorage(path)
    assert reader.times.tolist() == times
    assert largest_error(reader, fields) == 0
    new = write(tmp_path / "c.mkv", fields, write_mode="append")
    assert len(new) == 5


def test_clear_removes_the_file_and_its_times(tmp_path):
    fields = [make_field(pde.UnitGrid([5]))] * 2
    storage = write(tmp_path / "a.avi", fields, [1, 1.5], write_times=True)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.avi", "a.avi.times"]
    storage.clear()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="does not exist"):
        len(storage)


def test_a_storage_is_closed_at_the_end_of_a_block_and_of_its_life(tmp_path):
    field = make_field(pde.UnitGrid([5]))
    with MovieStorage(tmp_path / "a.mkv") as storage:
        storage.start_writing(field)
        storage.append(field)
    other = MovieStorage(tmp_path / "b.mkv")
    other.start_writing(field)
    other.append(field)
    del other
    for name in ("a.mkv", "b.mkv"):
        with av.open(str(tmp_path / name)) as container:
            assert container.duration == 40_000  # which is written at the end
        assert len(MovieStorage(tmp_path / name)) == 1


@pytest.mark.parametrize("bits", [16, 64])
def test_a_movie_without_fields_has_none(tmp_path, bits):
    storage = MovieStorage(tmp_path / "a.mkv", bits_per_channel=bits)
    storage.start_writing(make_field(pde.UnitGrid([5])))
    storage.end_writing()
    assert len(storage) == 0
    assert storage.times.tolist() == []
    assert list(storage) == list(storage.items()) == []
    with pytest.raises(IndexError):
        storage[0]


@pytest.mark.parametrize(("container", "bits"), [("avi", 16), ("mkv", 16), ("mov", 16), ("mkv", 64)])
def test_a_full_disk_is_an_error_and_leaves_the_fields_before(tmp_path, monkeypatch, container, bits):
    path = tmp_path / f"a.{container}"
    fields = [make_field(pde.UnitGrid([20, 30]), seed=seed) for seed in range(6)]
    storage = MovieStorage(path, write_times=True, bits_per_channel=bits)
    storage.start_writing(fields[0])
    for number in range(4):
        storage.append(fields[number], number)
    with monkeypatch.context() as patch:
        patch.setattr("ndframes.video.fields.growing.os.pwrite", _refuse)
        with pytest.raises(nf.OutputError, match="No space left"):
            storage.append(fields[4], 4)
        with pytest.raises(RuntimeError, match="start_writing"):
            storage.append(fields[4], 4)
    storage.close()
    reader = MovieStorage(path)
    assert 3 <= len(reader) <= 4
    assert reader.times.tolist() == list(range(len(reader)))
    assert largest_error(reader, fields[: len(reader)]) <= 0.5001 / 65535
    with pytest.raises(nf.OutputError, match="missing"):
        write(tmp_path / "missing" / f"a.{container}", fields, bits_per_channel=bits)


def _refuse(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


KILLED = """
import os, signal, sys
import numpy as np, pde
from ndframes.compat.pde import MovieStorage
field = pde.ScalarField(pde.UnitGrid([9, 6]))
storage = MovieStorage(sys.argv[1], vmax=100, write_times=True, bits_per_channel=int(sys.argv[2]))
storage.start_writing(field)
for number in range(20):
    field.data = number
    storage.append(field, number / 7)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("container", "bits"), [("avi", 16), ("mkv", 16), ("mov", 16), ("mkv", 64)])
def test_a_killed_simulation_leaves_its_fields(tmp_path, container, bits):
    path = tmp_path / f"a.{container}"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", KILLED, str(path), str(bits)], check=False)
    assert done.returncode == -signal.SIGKILL
    reader = MovieStorage(path)
    assert len(reader) >= 19
    assert reader.times[:19].tolist() == [number / 7 for number in range(19)]
    for number in (0, 11, 18):
        assert np.abs(reader[number].data - number).max() <= 0.5001 * 100 / 65535


# -- D6: metadata ------------------------------------------------------------------------------------------------------


def test_the_comment_is_that_of_py_pde(tmp_path):
    fields = make_collection(pde.UnitGrid([5, 4]), 3, labels=["u", "v'\"", "ü"])
    info = {"title": 'it\'s a "test"; $HOME', "list": [1, None, {"a": 2.5}]}
    storage = MovieStorage(tmp_path / "a.avi", vmax=np.array([1, 2, 3]), info=dict(info), write_times=True)
    storage.tracker(0.5)
    storage.start_writing(fields, {"more": True})
    storage.append(fields, 0)
    storage.end_writing()
    expected = {
        **{key: info[key] for key in ("title", "list")},
        "more": True,
        "dt": 0.5,
        "t_start": None,
        "field_attributes": fields.attributes_serialized,
        "video_format": "gbrp16le",
        "vmin": 0,
        "vmax": [1, 2, 3],
        "write_times": True,
        "version": 1,
    }
    assert stored_metadata(tmp_path / "a.avi") == expected
    reader = MovieStorage(tmp_path / "a.avi")
    assert [each.label for each in reader[0]] == ["u", "v'\"", "ü"]
    assert {key: reader.info[key] for key in ("title", "list", "more")} == {"more": True, **info}
    assert "version" not in reader.info


@pytest.mark.parametrize("bits", [16, 64])
def test_metadata_is_that_of_the_beginning(tmp_path, bits):
    """Solvers change the dicts that they pass, and add objects that are not JSON."""
    field, info = make_field(pde.UnitGrid([5])), {"solver": {"steps": 0}}
    storage = MovieStorage(tmp_path / "a.mkv", bits_per_channel=bits)
    storage.start_writing(field, info)
    info["solver"]["steps"] = object()
    storage.append(field, 0)
    storage.end_writing()
    reader = MovieStorage(tmp_path / "a.mkv")
    assert largest_error(reader, [field]) <= 0.5001 / 65535
    assert reader.info["solver"] == {"steps": 0}
    with pytest.raises(nf.MovieFormatError, match="JSON"):
        write(tmp_path / "b.mkv", [field], info={"a": object()})


@pytest.mark.parametrize(("container", "tag"), [("avi", "comment"), ("mkv", "comment"), ("mkv", "COMMENT")])
def test_the_comment_is_read_in_either_case(tmp_path, container, tag):
    field = make_field(pde.UnitGrid([5, 4]))
    levels = truncate(field.data[None], 0, 1, "gray16le")[None]
    path = tmp_path / f"a.{container}"
    write_like_pde(path, levels, metadata_of(field, payload=3), tag=tag)
    reader = MovieStorage(path)
    assert np.array_equal(reader[0].data, levels[0, 0] / 65535)
    assert reader.info["payload"] == 3
    assert reader.times.tolist() == [2]


def test_a_video_without_metadata_has_times_but_no_fields(tmp_path, caplog):
    levels = np.arange(24, dtype="<u2").reshape(2, 1, 4, 3) * 2000
    write_like_pde(tmp_path / "a.avi", levels, {}, comment="")
    reader = MovieStorage(tmp_path / "a.avi")
    assert reader.times.tolist() == [0, 1]
    assert "Could not find metadata" in caplog.text
    with pytest.raises(RuntimeError, match="grid"):
        reader[0]
    assert np.array_equal(reader.data, levels[:, 0] / 65535)
    reader._grid = pde.UnitGrid([4, 3])  # as py-pde's error proposes
    assert np.array_equal(reader[1].data, levels[1, 0] / 65535)
    with pytest.raises(nf.MovieFormatError, match="without a description"):
        nf.MovieStorage(tmp_path / "a.avi")


def test_files_that_are_no_movies_are_errors(tmp_path):
    with pytest.raises(OSError, match="does not exist"):
        MovieStorage(tmp_path / "missing.avi").times  # noqa: B018
    (tmp_path / "empty.avi").touch()
    (tmp_path / "text.avi").write_text("text")
    for name in ("empty.avi", "text.avi"):
        with pytest.raises(nf.MovieFormatError, match=name):
            MovieStorage(tmp_path / name).times  # noqa: B018


FIELD = (
    '"field_attributes": {"class": "\\"ScalarField\\"", "grid": "{\\"shape\\": [4, 3], \\"class\\": \\"UnitGrid\\"}"}'
)


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        ('\'{"vmin": 0, "video_format": "gray16le"', "damaged"),  # no closing quote
        ('\'{"vmin": 0, "video_format": "gray16le"\'', "damaged"),  # no closing brace
        ('\'{"vmin": 0, "video_format": "yuv444p"}\'', "known: gray"),
        ('\'{"vmin": "x", "video_format": "gray16le"}\'', "damaged"),
        ('\'{"vmin": 0, "video_format": "gray16le", "field_attributes": 3}\'', "damaged"),
        ('\'{"vmin": 0, "video_format": "gray16le", "field_attributes": {"grid": "{}"}}\'', "damaged"),
        ('\'{"vmin": 0, "video_format": "gray16le", ' + FIELD.replace("4, 3", "4, 4") + "}'", "do not hold"),
        ('\'{"vmin": 0, "video_format": "gray16le", ' + FIELD.replace("Scalar", "Vector") + "}'", "do not hold"),
    ],
)
def test_damaged_metadata_is_an_error(tmp_path, comment, message):
    path = tmp_path / "a.avi"
    write_like_pde(path, np.zeros((2, 1, 4, 3), "<u2"), {}, comment=comment)
    for kind in (nf.MovieStorage, lambda path: len(MovieStorage(path))):
        with pytest.raises(nf.MovieFormatError, match=message):
            kind(path)


def test_metadata_of_another_version_is_read_with_a_warning(tmp_path, caplog):
    comment = '\'{"vmin": 0, "version": 7, "video_format": "gray16le", ' + FIELD + "}'"
    write_like_pde(tmp_path / "a.avi", np.full((2, 1, 4, 3), 65535, "<u2"), {}, comment=comment)
    assert np.array_equal(nf.MovieStorage(tmp_path / "a.avi")[1], np.ones((4, 3)))
    assert "version 7" in caplog.text


# -- D7: reading -------------------------------------------------------------------------------------------------------


def test_fields_are_read_by_index(tmp_path):
    fields = [make_field(pde.UnitGrid([5, 4]), seed=seed) for seed in range(30)]
    write(tmp_path / "a.avi", fields)
    reader = MovieStorage(tmp_path / "a.avi")
    for number in (29, 0, 17, -1, -30, 16, 18):
        assert largest_error([reader[number]], [fields[number]]) <= 0.5001 / 65535
    for number in (30, -31):
        with pytest.raises(IndexError):
            reader[number]
    assert largest_error(reader[5:20:3], fields[5:20:3]) <= 0.5001 / 65535
    assert largest_error(reader[::-1], fields[::-1]) <= 0.5001 / 65535
    assert reader[40:] == []
    assert largest_error(list(reader), fields) <= 0.5001 / 65535
    times, found = zip(*reader.items(), strict=True)
    assert list(times) == list(range(30))
    assert largest_error(found, fields) <= 0.5001 / 65535
    assert np.array_equal(reader.data, [field.data for field in found])
    found[0].data[:] = 7  # a copy
    assert largest_error([reader[0]], [fields[0]]) <= 0.5001 / 65535


@pytest.mark.parametrize("video_format", FORMATS)
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("level", [None, 1, 3])
def test_what_py_pde_writes_is_read(tmp_path, video_format, container, level):
    """Frames of groups of 12, each of which refers to those before; grids that are not square; all numbers of components."""
    if level == 1 and BITS[video_format] == 16:
        level = None  # that version of FFV1 has 8 bits
    samples = FORMATS[video_format][2]
    path, rng = tmp_path / f"a.{container}", np.random.default_rng(0)
    for shape in ((6, 4), (3, 8), (5, 5), (7,)):
        grid = pde.UnitGrid(shape)
        field = make_collection(grid, samples) if samples > 1 else make_field(grid)
        low, high = list(range(samples)), [2 + 3 * number for number in range(samples)]
        levels = rng.integers(0, FORMATS[video_format][3] + 1, (30, samples, *shape, *([1] * (len(shape) == 1))))
        levels = levels.astype("u1" if BITS[video_format] == 8 else "<u2")
        write_like_pde(path, levels, metadata_of(field, vmin=low, vmax=high), video_format=video_format, level=level)
        steps = np.subtract(high, low) / FORMATS[video_format][3]
        expected = np.moveaxis(levels * steps[:, None, None] + np.reshape(low, (-1, 1, 1)), 1, -1)
        reader = MovieStorage(path)
        assert np.array_equal(reader.times, 2 + 0.5 * np.arange(30))
        for number in (29, 3, 17, 16, 0):
            found = reader[number]
            assert found.grid == grid
            assert found.data.shape == field.data.shape
            np.testing.assert_allclose(
                found.data.reshape(levels.shape[1:]), np.moveaxis(expected[number], -1, 0), atol=1e-12
            )
        movie = nf.MovieStorage(path)
        rows = expected if len(shape) == 2 else expected.swapaxes(1, 2)  # a grid of one axis is one row
        np.testing.assert_allclose(movie[...], rows if samples > 1 else rows[..., 0], atol=1e-12)
        assert movie.times.tolist() == reader.times.tolist()
        assert movie.info["t_start"] == 2
        np.testing.assert_allclose(nf.open(path, workdir=tmp_path)[[29, 3]], rows[[29, 3]], atol=1e-12)


def test_a_file_of_py_pde_is_a_source_of_frames_as_fields_and_as_a_picture(tmp_path):
    field = make_field(pde.UnitGrid([6, 4]))
    levels = np.random.default_rng(0).integers(0, 65536, (15, 1, 6, 4)).astype("<u2")
    path = tmp_path / "a.avi"
    write_like_pde(path, levels, metadata_of(field, vmax=65535), write_times=[number**2 for number in range(15)])
    frames = nf.SimpleFrames({"run": path}, workdir=tmp_path / "work")
    found = frames.load_region("run", np.s_[13:2:-5, 1:5, 2:])
    np.testing.assert_allclose(found[..., 0], levels[13:2:-5, 0, 1:5, 2:], atol=1e-9)
    video = nf.open(path, workdir=tmp_path / "work")
    assert (video.shape, video.dtype) == ((15, 6, 4, 1), np.float64)
    assert video.times.tolist() == [number**2 for number in range(15)]
    np.testing.assert_allclose(video.at_time(49)[..., 0], levels[7, 0], atol=1e-9)
    picture = nf.read_video(path, [14], pixel_format="picture")
    assert picture.tobytes() == levels[14].tobytes()
    copied = nf.MovieStorage(path).copy(tmp_path / "copy.mkv")
    np.testing.assert_allclose(copied[...], levels[:, 0], atol=1e-9)
    assert copied.times.tolist() == video.times.tolist()
    with pytest.raises(nf.MovieFormatError, match="cannot be continued"):
        nf.MovieStorage(path, mode="a")


def test_readers_cross_processes_threads_and_forks(tmp_path):
    import pickle
    from concurrent.futures import ThreadPoolExecutor

    levels = np.random.default_rng(0).integers(0, 256, (40, 1, 6, 4)).astype("u1")
    write_like_pde(
        tmp_path / "a.avi", levels, metadata_of(make_field(pde.UnitGrid([6, 4])), vmax=255), video_format="gray"
    )
    movie = pickle.loads(pickle.dumps(nf.MovieStorage(tmp_path / "a.avi")))
    numbers = np.random.default_rng(1).permutation(40).tolist()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: movie[number], numbers))
    np.testing.assert_allclose(found, levels[numbers, 0], atol=1e-9)
    in_fork(lambda: bool(np.abs(movie[17] - levels[17, 0]).max() < 1e-9))


def test_a_damaged_frame_is_an_error_and_the_others_are_read(tmp_path):
    fields = [make_field(pde.UnitGrid([16, 16]), seed=seed) for seed in range(6)]
    path = tmp_path / "a.avi"
    write(path, fields)
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    start = packets[3][0] + packets[3][1] // 2
    data[start : start + 40] = bytes(40)
    path.write_bytes(data)
    reader = MovieStorage(path)
    with pytest.raises(nf.MovieError, match="frame 3"):
        reader[3]
    for number in (0, 2, 4, 5):
        assert largest_error([reader[number]], [fields[number]]) <= 0.5001 / 65535


# -- times: D7, D8 -----------------------------------------------------------------------------------------------------

INTERRUPTS = [
    (lambda: pde.FixedInterrupts([0.5, 0.7, 1.4]), False),
    (lambda: pde.ConstantInterrupts(1, t_start=1), True),
    (lambda: 0.5, True),
    (lambda: pde.LogarithmicInterrupts(0.5, 2), False),
]


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("make_interrupts", [each for each, _ in INTERRUPTS])
def test_written_times_are_exact(tmp_path, container, make_interrupts):
    truth, storage = pde.MemoryStorage(), MovieStorage(tmp_path / f"a.{container}", write_times=True)
    trackers = [truth.tracker(make_interrupts()), storage.tracker(make_interrupts())]
    pde.DiffusionPDE().solve(make_field(pde.UnitGrid([5])), t_range=2.1, dt=0.1, backend="numpy", tracker=trackers)
    assert [float(line) for line in storage._filename_times.read_text().splitlines()] == list(truth.times)
    assert MovieStorage(tmp_path / f"a.{container}").times.tolist() == list(truth.times)
    assert nf.MovieStorage(tmp_path / f"a.{container}").times.tolist() == list(truth.times)


@pytest.mark.parametrize(("make_interrupts", "is_constant"), INTERRUPTS)
def test_without_written_times_they_follow_from_the_interval(tmp_path, caplog, make_interrupts, is_constant):
    truth, storage = pde.MemoryStorage(), MovieStorage(tmp_path / "a.avi")
    trackers = [truth.tracker(make_interrupts()), storage.tracker(make_interrupts())]
    assert isinstance(trackers[1], StorageTracker)
    with caplog.at_level(logging.WARNING):
        pde.DiffusionPDE().solve(make_field(pde.UnitGrid([5])), t_range=2.1, dt=0.1, backend="numpy", tracker=trackers)
    assert ("write_times=True" in caplog.text) == (not is_constant)
    assert caplog.text.count("Time mismatch") == (not is_constant)
    times = MovieStorage(tmp_path / "a.avi").times
    if is_constant:
        np.testing.assert_allclose(times, truth.times)
    else:
        start = storage.info["t_start"] or 0
        assert times.tolist() == [start + storage.info["dt"] * number for number in range(len(truth.times))]
    assert not storage._filename_times.exists()


def test_movies_of_ndframes_have_their_times_in_any_case(tmp_path, caplog):
    fields, times = [make_collection(pde.UnitGrid([5, 3]), 5, seed) for seed in range(3)], [0.5, 0.7, 1.4]
    write(tmp_path / "a.mkv", fields, times)
    assert MovieStorage(tmp_path / "a.mkv").times.tolist() == times
    assert not caplog.records


def test_missing_times_are_equidistant_and_reported(tmp_path, caplog):
    levels = np.zeros((4, 1, 3, 2), "<u2")
    path = tmp_path / "a.avi"
    write_like_pde(path, levels, metadata_of(make_field(pde.UnitGrid([3, 2]))), write_times=[1, 2, 4])
    assert MovieStorage(path).times.tolist() == [1, 2, 4, 3.5]  # the writer was killed
    (tmp_path / "a.avi.times").write_text("1\n2\nx\n")
    with pytest.raises(nf.MovieFormatError, match=r"a\.avi\.times"):
        MovieStorage(path).times  # noqa: B018
    assert not caplog.records
    (tmp_path / "a.avi.times").unlink()
    assert MovieStorage(path).times.tolist() == [2, 2.5, 3, 3.5]
    assert "a.avi.times" in caplog.text


def test_a_tracker_transforms_what_it_stores(tmp_path):
    field = make_field(pde.UnitGrid([8]))
    for name, function in (("a.avi", lambda state: state**2), ("b.avi", lambda state, time: state * (time + 1))):
        storage = MovieStorage(tmp_path / name, vmax=5)
        tracker = storage.tracker(1, transformation=function)
        pde.DiffusionPDE(diffusivity=0).solve(field, t_range=2, dt=0.5, backend="numpy", tracker=tracker)
        for time, found in MovieStorage(tmp_path / name).items():
            expected = field.data**2 if name == "a.avi" else field.data * (time + 1)
            assert np.abs(found.data - expected).max() <= 0.5001 * 5 / 65535


# -- D9: what all storages of py-pde have ------------------------------------------------------------------------------


@pytest.fixture(params=["avi", "mkv64"])
def stored(request, tmp_path):
    """A storage to read, and the fields in it: collections of a scalar and a vector."""
    grid = pde.UnitGrid([4, 3])
    fields = [
        pde.FieldCollection([make_field(grid, 0, n, label="a"), make_field(grid, 1, 9 + n, label="b")])
        for n in range(5)
    ]
    path = tmp_path / f"a.{request.param[:3]}"
    write(path, fields, bits_per_channel=64 if "64" in request.param else 16)
    return MovieStorage(path), fields


def test_properties_of_a_storage(stored):
    storage, fields = stored
    assert storage.grid == fields[0].grid
    assert storage.has_collection
    assert storage.shape == (5, 3, 4, 3)
    assert storage.data_shape == (3, 4, 3)
    assert storage.dtype == np.float64
    assert len(storage) == 5


def test_views_and_extracted_fields(stored):
    storage, fields = stored
    for key, number in (("a", 0), ("b", 1), (1, 1)):
        expected = [field[number] for field in fields]
        view = storage.view_field(key)
        assert len(view) == 5
        assert view.grid == storage.grid
        assert largest_error(view, expected) <= 0.5001 / 65535
        assert largest_error([view[3]], [expected[3]]) <= 0.5001 / 65535
        extracted = storage.extract_field(key, "new")
        assert [field.label for field in extracted] == ["new"] * 5
        assert type(extracted[0]) is type(expected[0])
        assert largest_error(extracted, expected) <= 0.5001 / 65535


def test_ranges_of_time(stored):
    storage, fields = stored
    for given, expected in ((2.5, range(3)), ((1, 3), range(1, 4)), ((None, 0), range(1)), ((2, None), range(2, 5)), (None, range(5)), ((7, 9), range(0))):  # fmt: skip
        part = storage.extract_time_range(given)
        assert list(part.times) == list(expected)
        assert largest_error(part, [fields[number] for number in expected]) <= 0.5001 / 65535 if len(expected) else True
        assert len(part) == len(expected)


def test_functions_and_copies(stored, tmp_path):
    storage, fields = stored
    target = MovieStorage(tmp_path / "out.mkv", bits_per_channel=64)
    for out in (None, target):
        copied = storage.copy(out)
        assert list(copied.times) == list(range(5))
        assert largest_error(copied, storage) == 0
    doubled = storage.apply(lambda field: 2 * field)
    timed = storage.apply(lambda field, time: field * time)
    assert largest_error(doubled, [2 * field for field in fields]) <= 1.0002 / 65535
    assert largest_error(timed, [number * field for number, field in enumerate(fields)]) <= 4 * 0.5001 / 65535


# -- what py-pde lacks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("container", "bits"), [("avi", 8), ("avi", 16), ("mkv", 8), ("mkv", 32), ("mp4", 64)])
def test_complex_fields_and_any_number_of_channels(tmp_path, container, bits):
    grid, path = pde.CylindricalSymGrid(2, (0, 1), (6, 4)), tmp_path / f"a.{container}"
    cases = [
        make_field(grid, dtype=complex),
        make_field(pde.UnitGrid([7]), dtype=complex),
        make_field(grid, 1, dtype=complex),
        make_field(grid, 2),
        make_collection(grid, 5),
        make_collection(pde.UnitGrid([3]), 7),
    ]
    for field in cases:
        fields = [field, field * 0.5, field * 0.25]
        write(path, fields, bits_per_channel=bits)
        reader = MovieStorage(path)
        for found, expected in zip(reader, fields, strict=True):
            assert found.dtype == expected.dtype
            assert found.grid == expected.grid
            parts = (found.data - expected.data).view(np.float64)
            assert np.abs(parts).max() <= (0.5001 / (2**bits - 1) if bits < 32 else 1e-7 * (bits == 32))
        with pytest.raises(nf.MovieError, match="bits|AVI") if container == "avi" else warnings.catch_warnings():
            write(path, fields, bits_per_channel=64)


def test_nonfinite_numbers_are_equal_in_exact_movies(tmp_path):
    data = np.array([[np.nan, np.inf, -np.inf, -0.0], [5e-324, 1e308, 1, 2]])
    field = pde.ScalarField(pde.UnitGrid([2, 4]), data)
    write(tmp_path / "a.mkv", [field], bits_per_channel=64)
    assert MovieStorage(tmp_path / "a.mkv")[0].data.tobytes() == data.tobytes()
    joined = np.array([complex(np.nan, 1), complex(np.inf, -np.inf), complex(-0.0, np.nan)])
    write(tmp_path / "b.mkv", [pde.ScalarField(pde.UnitGrid([3]), joined, dtype=complex)], bits_per_channel=64)
    assert MovieStorage(tmp_path / "b.mkv")[0].data.tobytes() == joined.tobytes()


# -- py-pde's own MovieStorage, where there is the ffmpeg program ------------------------------------------------------

program = pytest.mark.skipif(
    not HAS_PROGRAM, reason="there is no ffmpeg program; files like its are encoded by PyAV above"
)


@program
@pytest.mark.parametrize(
    ("video_format", "container"),
    [*((name, "avi") for name in FORMATS), ("gray16le", "mkv"), ("rgb24", "mkv"), ("gbrp16le", "mov"), ("gray", "mov")],
)
def test_py_pde_reads_what_is_written_for_it_and_the_other_way(tmp_path, video_format, container):
    samples = FORMATS[video_format][2]
    for shape in ([6, 4], [7]):
        fields = [make_collection(pde.UnitGrid(shape), samples, seed) for seed in range(14)]
        ours, theirs = tmp_path / f"ours.{container}", tmp_path / f"theirs.{container}"
        write(ours, fields, video_format=video_format, info={"a": "it's"})
        stock = pde.MovieStorage(ours)
        assert len(stock) == 14
        assert np.array_equal(stock.times, np.arange(14))
        assert stock.info["a"] == "it's"
        step = 1 / FORMATS[video_format][3]
        assert largest_error(stock, fields) <= 0.5001 * step
        assert largest_error([stock[13]], [fields[13]]) <= 0.5001 * step
        writer = pde.MovieStorage(theirs, video_format=video_format, write_times=True)
        writer.start_writing(fields[0])
        for number, field in enumerate(fields):
            writer.append(field, number / 7)
        writer.end_writing()
        reader, stock = MovieStorage(theirs), pde.MovieStorage(theirs)
        assert reader.times.tolist() == [number / 7 for number in range(14)]
        assert largest_error(reader, list(stock)) <= 1e-12
        assert largest_error([reader[13], reader[2]], [stock[13], stock[2]]) <= 1e-12


@program
def test_files_of_the_kit_are_those_of_the_program(tmp_path):
    """So what the tests above read is what py-pde writes."""
    for video_format, (_, _, samples, _) in FORMATS.items():
        fields = [make_collection(pde.UnitGrid([6, 4]), samples, seed) for seed in range(14)]
        writer = pde.MovieStorage(tmp_path / "theirs.avi", video_format=video_format)
        writer.start_writing(fields[0])
        for number, field in enumerate(fields):
            writer.append(field, number)
        writer.end_writing()
        levels = np.array([truncate(field.data, 0, 1, video_format) for field in fields])
        metadata = {"field_attributes": fields[0].attributes_serialized, "vmin": 0, "vmax": 1}
        write_like_pde(tmp_path / "kit.avi", levels, metadata, video_format=video_format)
        assert stored_metadata(tmp_path / "kit.avi") == stored_metadata(tmp_path / "theirs.avi")
        decoded = []
        for name in ("kit.avi", "theirs.avi"):
            with av.open(str(tmp_path / name)) as container:
                stream = container.streams.video[0]
                keys = [packet.is_keyframe for packet in container.demux(stream) if packet.size]
                container.seek(0)
                frames = [frame.to_ndarray(format=FORMATS[video_format][0]) for frame in container.decode(video=0)]
                decoded.append((stream.codec_context.pix_fmt, keys, np.array(frames).tolist()))
        assert decoded[0] == decoded[1]
