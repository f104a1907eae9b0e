"""MovieStorage: every kind of field in every container, back by index."""

from __future__ import annotations

import itertools
import pickle
from fractions import Fraction

import numpy as np
import pytest
from kit.forking import in_fork

import ndframes as nf

CONTAINERS = ("mkv", "mp4", "mov", "avi")
SHAPES = ((48, 64), (1, 37), (33, 17), (5, 5))
LEVEL_STEP = {8: 1 / 255, 16: 1 / 65535}


def make_fields(dtype: str, shape: tuple[int, ...], count: int = 5, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return [random.random(shape).astype(dtype) for _ in range(count)]
    limits = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return [random.integers(*limits, shape, np.dtype(dtype), endpoint=True) for _ in range(count)]


def write(path, fields, **options) -> nf.MovieReport:
    with nf.MovieStorage(path, mode="w", **options) as movie:
        for number, field in enumerate(fields):
            assert movie.append(field, number / 7) == number
    return movie.close()


@pytest.mark.parametrize("container", ["mkv", "mp4", "mov"])
@pytest.mark.parametrize("dtype", ["bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"])
def test_exact_fields_are_equal(tmp_path, container, dtype):
    for shape, bands in itertools.product(SHAPES, (0, 1, 2, 3, 4, 5, 9)):
        fields = make_fields(dtype, (*shape, bands) if bands else shape, 3)
        path = tmp_path / f"{len(shape)}.{container}"
        write(path, fields, bits="exact")
        movie = nf.MovieStorage(path)
        assert movie.dtype == dtype
        assert movie.bits == "exact"
        assert movie.is_complete
        for number in (2, 0, 1):
            found = movie[number]
            assert found.dtype == dtype
            assert found.shape == fields[number].shape
            assert found.tobytes() == fields[number].tobytes()


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "bool"])
def test_exact_small_integers_in_avi_and_packed(tmp_path, dtype):
    for bands in (0, 3, 6):
        fields = make_fields(dtype, (20, 30, bands) if bands else (20, 30))
        write(tmp_path / "a.avi", fields)
        assert np.array_equal(nf.MovieStorage(tmp_path / "a.avi")[...], fields)
        write(tmp_path / "a.mkv", fields, codec="packed")
        assert np.array_equal(nf.MovieStorage(tmp_path / "a.mkv")[...], fields)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_levels_are_within_half_a_step_and_unbiased(tmp_path, container, bits, dtype):
    for shape, bands in itertools.product(SHAPES, (0, 1, 2, 3, 4, 5, 9)):
        fields = make_fields(dtype, (*shape, bands) if bands else shape, 3)
        path = tmp_path / f"{bits}.{container}"
        write(path, fields, bits=bits)
        movie = nf.MovieStorage(path)
        assert movie.dtype == dtype
        assert movie.bits == bits
        errors = (movie[...].astype("f8") - np.array(fields, "f8")) / LEVEL_STEP[bits]
        assert np.abs(errors).max() <= 0.5 + (0.01 if dtype == "f4" else 1e-9)
    # The last one has the most values.
    assert abs(errors.mean()) < 5 / np.sqrt(12 * errors.size)


def test_limits_for_each_channel_and_from_the_first_field(tmp_path):
    random = np.random.default_rng(2)
    low, high = np.array([-3, 100, 1e-9]), np.array([-1, 5000, 1e-8])
    fields = [low + (high - low) * random.random((9, 11, 3)) for _ in range(4)]
    write(tmp_path / "a.mkv", fields, vmin=low, vmax=high, channels="u|v|w")
    movie = nf.MovieStorage(tmp_path / "a.mkv")
    assert movie.vmin == tuple(low)
    assert movie.vmax == tuple(high)
    assert movie.channels == ("u", "v", "w")
    assert (np.abs(movie[...] - fields) <= 0.5001 * (high - low) / 65535).all()
    write(tmp_path / "b.mkv", [fields[0]], vmin="auto", vmax="auto")
    movie = nf.MovieStorage(tmp_path / "b.mkv")
    assert movie.vmin == tuple(fields[0].min((0, 1)))
    assert movie.vmax == tuple(fields[0].max((0, 1)))
    assert np.array_equal(movie[0].min((0, 1)), movie.vmin)
    assert np.allclose(movie[0].max((0, 1)), movie.vmax)
    write(tmp_path / "c.mkv", [np.full((4, 5), 7.0)], vmin="auto", vmax="auto")
    assert np.array_equal(nf.MovieStorage(tmp_path / "c.mkv")[0], np.full((4, 5), 7.0))


def test_lists_complex_fields_and_rows(tmp_path):
    random = np.random.default_rng(3)
    u, v = random.random((6, 8)), random.random((6, 8, 2))
    write(tmp_path / "list.mkv", [[u, v]], bits=64, vmin=[0, -1], vmax=[1, 2])
    movie = nf.MovieStorage(tmp_path / "list.mkv")
    assert movie.vmin == (0, -1, -1)
    assert movie.vmax == (1, 2, 2)
    assert np.array_equal(movie[0], np.dstack([u, v]))
    wave = random.random((6, 8)) + 1j * random.random((6, 8))
    write(tmp_path / "complex.mkv", [wave, 2 * wave], bits="exact")
    movie = nf.MovieStorage(tmp_path / "complex.mkv")
    assert movie.is_complex
    assert movie.shape == (2, 6, 8, 2)
    assert np.array_equal(movie[1].view(complex)[..., 0], 2 * wave)
    write(tmp_path / "row.mkv", [u[0], u[1]], bits="exact")
    movie = nf.MovieStorage(tmp_path / "row.mkv")
    assert movie.shape == (2, 1, 8)
    assert np.array_equal(movie[1, 0], u[1])


def test_floats_are_kept_at_the_bits_that_were_asked_for(tmp_path):
    field = np.random.default_rng(1).standard_normal((12, 13))
    for bits in (32, 64):
        for given in (field, field.astype("f4"), (field * 100).astype("i2")):
            write(tmp_path / "a.mkv", [given], bits=bits)
            found = nf.MovieStorage(tmp_path / "a.mkv")[0]
            assert found.dtype == f"f{bits // 8}"
            assert np.array_equal(found, given.astype(found.dtype))


def test_random_bits_infinities_and_payloads_survive(tmp_path):
    random = np.random.default_rng(9)
    for dtype in ("f2", "f4", "f8"):
        bits = random.integers(0, 256, (3, 40, 50, np.dtype(dtype).itemsize), np.uint8)
        fields = np.ascontiguousarray(bits).view(dtype)[..., 0]
        for container in ("mkv", "mp4"):
            write(tmp_path / f"a.{container}", fields, bits="exact")
            assert nf.MovieStorage(tmp_path / f"a.{container}")[...].tobytes() == fields.tobytes()


@pytest.mark.parametrize("container", CONTAINERS)
def test_times_are_those_that_were_given(tmp_path, container):
    times = [0.1, 1 / 3, 1e-300, -5.5, 7e200, 0.0006369616873214543, 3]
    path = tmp_path / f"a.{container}"
    with nf.MovieStorage(path, mode="w", times_file=True) as movie:
        for time in times:
            movie.append(np.zeros((4, 4)), time)
        movie.append(np.zeros((4, 4)))
        assert movie.times.tolist() == [*times, 4]
    assert nf.MovieStorage(path).times.tolist() == [*times, 4]
    assert [float(line) for line in (tmp_path / f"a.{container}.times").read_text().split()] == [*times, 4]
    with nf.MovieStorage(path, mode="w") as movie:
        movie.extend(np.zeros((3, 4, 4)))
    assert nf.MovieStorage(path).times.tolist() == [0, 1, 2]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("movie") / "a.mkv"
    fields = np.random.default_rng(4).random((12, 20, 30, 3)).astype("f4")
    write(
        path,
        fields,
        bits="exact",
        channels="u|v|w",
        info={"name": "Käse", "list": [1, {"a": None}]},
        fps=Fraction(30000, 1001),
    )
    return nf.MovieStorage(path), fields


@pytest.mark.parametrize(
    "index",
    [
        3, -1, slice(None), slice(2, 9, 3), slice(None, None, -2), [7, 3, 7, -1], [], ..., (2, 3), (2, 3, 4, 1),
        (slice(3, 6), slice(-5, None), slice(None, 4)), (..., 2), (slice(1, 3), ..., slice(1, None)), (5, ..., 0),
        ([4, 1], slice(3, 9), 5), (slice(4, 4), 2), (slice(0, 50), slice(30, 2)),
    ],
)  # fmt: skip
def test_indexing_is_that_of_numpy(written, index):
    movie, fields = written
    expected = fields[index] if not (isinstance(index, list) and not index) else fields[:0]
    found = movie[index]
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)
    assert found.flags.owndata or found.base is not None
    assert found.flags.writeable
    assert found.flags.c_contiguous


def test_channels_by_name(written):
    movie, fields = written
    assert np.array_equal(movie[3, 2:5, 4:9, "v"], fields[3, 2:5, 4:9, 1])
    assert np.array_equal(movie[..., "w|u"], fields[..., [2, 0]])
    assert np.array_equal(movie[[5, 2], ..., ["v", "w"]], fields[[5, 2]][..., [1, 2]])
    with pytest.raises(nf.ChannelError, match="u"):
        movie[0, ..., "q"]
    assert np.array_equal(movie["u"], fields[..., 0])
    for bad in (12, (0, 20), 1.5, (0, 0, 0, 0, 0)):
        with pytest.raises(nf.NdframesError):
            movie[bad]


def test_reading_by_time_and_in_order(written):
    movie, fields = written
    times = np.arange(12) / 7
    assert np.array_equal(movie.at_time(0.49), fields[3])  # 3 / 7 is nearer than 4 / 7
    assert np.array_equal(movie.at_time([0, 9, -9]), fields[[0, 11, 0]])
    assert np.array_equal(movie.at_time([0.57, 4 / 7], how="shown"), fields[[3, 4]])
    assert np.array_equal(list(movie), fields)
    assert [time for time, _ in movie.items()] == times.tolist()
    part = movie.extract_time_range((0.3, 1))
    assert np.array_equal(part[...], fields[3:8])
    assert part.times.tolist() == times[3:8].tolist()
    assert np.array_equal(part[[-1, 0]], fields[[7, 3]])
    assert part.shape == (5, 20, 30, 3)
    assert len(movie.extract_time_range(0.3)) == 3
    assert len(movie.extract_time_range((5, None))) == 0
    assert np.array_equal(part.extract_time_range((0.5, None))[...], fields[4:8])
    with pytest.raises(nf.RegionError):
        movie.at_time(float("nan"))
    with pytest.raises(ValueError, match="nearest"):
        movie.at_time(1, how="next")


def test_what_the_file_says_of_itself(written):
    movie, _ = written
    assert movie.info == {"name": "Käse", "list": [1, {"a": None}]}
    assert repr(movie).startswith("<MovieStorage ")
    assert "12 fields of 20 x 30 x 3 float32, exact" in repr(movie)
    assert movie.ndim == 4
    assert movie.nbytes == 12 * 20 * 30 * 3 * 4


def test_apply_and_copy(written, tmp_path):
    movie, fields = written
    assert np.array_equal(movie.apply(lambda field: field[..., 0] * 2), fields[..., 0] * 2)
    with_time = movie.apply(lambda field, time: field[..., :2] * 0 + np.float32(time), out=tmp_path / "t.mkv")
    assert with_time.shape == (12, 20, 30, 2)
    assert np.array_equal(with_time[:, 0, 0, 0], (np.arange(12) / 7).astype("f4"))
    copied = movie.copy(tmp_path / "copy.mp4")
    assert np.array_equal(copied[...], fields)
    assert copied.times.tolist() == movie.times.tolist()
    assert copied.info == movie.info
    assert copied.channels == movie.channels
    with nf.MovieStorage(tmp_path / "both.mkv", mode="w", bits=16) as out:
        movie.copy(out)
        movie.extract_time_range(0.3).copy(out)
    assert len(nf.MovieStorage(tmp_path / "both.mkv")) == 15
    with pytest.raises(nf.MovieError, match="that is read"):
        movie.copy(movie.path)


def test_transforms_of_one_and_two_arguments(tmp_path):
    field = np.random.default_rng(0).random((5, 6))
    for transform, expected in ((lambda a: a / 2, field / 2), (lambda a, t: a * t, field * 3), (np.negative, -field)):
        with nf.MovieStorage(tmp_path / "a.mkv", mode="w", bits="exact", transform=transform) as movie:
            movie.append(field, 3)
        assert np.array_equal(nf.MovieStorage(tmp_path / "a.mkv")[0], expected)


def test_masked_values_are_nan(tmp_path):
    field = np.ma.masked_greater(np.random.default_rng(3).random((8, 9)), 0.7)
    for options in ({"bits": "exact"}, {"bits": 16, "nan": "channel"}):
        write(tmp_path / "a.mkv", [field], **options)
        found = nf.MovieStorage(tmp_path / "a.mkv")[0]
        assert np.array_equal(np.isnan(found), field.mask)
        assert np.abs(found - field.data)[~field.mask].max() <= 0.5 / 65535 + 1e-9


def test_nan_in_levels(tmp_path):
    random = np.random.default_rng(6)
    fields = random.random((4, 30, 40, 3))
    fields[random.random(fields.shape) < 0.2] = np.nan
    missing = np.isnan(fields)
    for bits in (8, 16):
        for container in CONTAINERS:
            path = tmp_path / f"a.{container}"
            write(path, fields, bits=bits, nan="channel")
            found = nf.MovieStorage(path)[...]
            assert np.array_equal(np.isnan(found), missing)
            assert np.abs(found - fields)[~missing].max() <= 0.5001 * LEVEL_STEP[bits]
        movie = nf.MovieStorage(path)
        assert np.array_equal(np.isnan(movie[1, ..., 2]), missing[1, ..., 2])
    with nf.MovieStorage(path, mode="w", nan="clip", vmin=-1) as movie:
        movie.extend(fields)
        assert np.array_equal(movie.clipped, missing.sum((1, 2)))
    assert (nf.MovieStorage(path)[...][missing] == -1).all()


def test_clipped_values_are_counted_and_reported_once(tmp_path, caplog):
    fields = np.array([[[0.5, 1.5]], [[-1, 2]], [[0, 1]], [[np.inf, -np.inf]]])
    with nf.MovieStorage(tmp_path / "a.mkv", mode="w") as movie:
        movie.extend(fields)
        assert movie.clipped.tolist() == [[1], [2], [0], [2]]
    assert [record.getMessage().count("field 0") for record in caplog.records] == [1]
    report = movie.close()
    assert (report.clipped, report.clipped_frames) == (5, 3)
    assert "5 values in 3 fields clipped" in str(report)
    assert np.array_equal(nf.MovieStorage(tmp_path / "a.mkv")[:, 0], [[32768 / 65535, 1], [0, 1], [0, 1], [1, 0]])
    caplog.clear()
    with nf.MovieStorage(tmp_path / "a.mkv", mode="w", clip="ignore") as movie:
        movie.extend(fields)
    assert not caplog.records
    assert movie.clipped.sum() == 5


@pytest.mark.parametrize("container", ["mkv", "mp4", "mov"])
@pytest.mark.parametrize("bits", [8, 16, "exact"])
def test_append_continues_a_movie(tmp_path, container, bits):
    path = tmp_path / f"a.{container}"
    fields = make_fields("f4", (24, 32, 2), 9)
    write(path, fields[:3], bits=bits, info={"a": 1})
    for first in (3, 5):
        with nf.MovieStorage(path, mode="a") as movie:
            assert len(movie) == first
            assert movie.times.tolist() == [number / 7 for number in range(first)]
            for number in range(first, first + 2):
                assert movie.append(fields[number], number / 7) == number
                assert len(movie) == number + 1
    movie = nf.MovieStorage(path)
    assert movie.is_complete
    assert movie.times.tolist() == [number / 7 for number in range(7)]
    assert movie.info == {"a": 1}
    assert np.abs(movie[...] - np.array(fields[:7])).max() <= (0 if bits == "exact" else 0.51 * LEVEL_STEP[bits])
    assert np.array_equal(nf.read_video(path, pixel_format="picture").shape[:3], (7, 24, 32))


def test_append_begins_a_movie_that_is_missing(tmp_path):
    with nf.MovieStorage(tmp_path / "a.mkv", mode="a") as movie:
        movie.append(np.zeros((3, 4)))
    assert len(nf.MovieStorage(tmp_path / "a.mkv")) == 1


def test_a_reader_follows_a_writer(tmp_path):
    fields = make_fields("f8", (10, 12), 6)
    for container, behind in (("mkv", 0), ("mp4", 1), ("avi", 0)):
        path = tmp_path / f"a.{container}"
        with nf.MovieStorage(path, mode="w", bits=16) as movie:
            movie.append(fields[0])
            reader = None
            for number in range(1, 6):
                movie.append(fields[number])
                reader = reader or nf.MovieStorage(path)
                assert len(reader) == number + 1 - behind
                assert not reader.is_complete
                assert np.abs(reader[-1] - fields[number - behind]).max() < 1e-5
                assert np.abs(movie[number - 1] - fields[number - 1]).max() < 1e-5
        assert len(reader) == 6
        assert reader.is_complete
        assert len(reader.times) == 6


def test_a_new_movie_replaces_the_old_one_with_its_first_field(tmp_path):
    path = tmp_path / "a.mkv"
    write(path, make_fields("u1", (4, 5)))
    old = path.read_bytes()
    movie = nf.MovieStorage(path, mode="w")
    assert path.read_bytes() == old
    with pytest.raises(nf.MovieError, match="no field"):
        movie.close()
    assert path.read_bytes() == old
    assert [item.name for item in tmp_path.iterdir()] == ["a.mkv"]
    reader = nf.MovieStorage(path)
    write(path, make_fields("u1", (6, 7)))
    assert reader[0].shape == (4, 5)  # of the file that it has opened
    assert nf.MovieStorage(path)[0].shape == (6, 7)


def test_a_reader_pickles_and_survives_a_fork(written):
    movie, fields = written
    again = pickle.loads(pickle.dumps(movie))
    assert np.array_equal(again[3], fields[3])
    in_fork(lambda: bool(np.array_equal(movie[5], fields[5])))
    assert np.array_equal(movie[6], fields[6])


def test_a_forked_child_leaves_the_file_to_its_parent(tmp_path):
    path = tmp_path / "a.mkv"
    with nf.MovieStorage(path, mode="w", bits="exact") as movie:
        movie.append(np.full((3, 4), 1.0))

        def try_to_write() -> bool:
            try:
                movie.append(np.zeros((3, 4)))
            except nf.MovieError as error:
                return "process" in str(error)
            return False

        in_fork(try_to_write)
        movie.append(np.full((3, 4), 2.0))
    assert nf.MovieStorage(path)[:, 0, 0].tolist() == [1, 2]
