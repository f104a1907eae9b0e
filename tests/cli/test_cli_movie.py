"""``ndframes movie``: info, export and convert."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

import ndframes as nf
from ndframes.movie.stacks import open_stack
from tests.kit.pde_files import truncate, write_like_pde


@pytest.fixture
def waves():
    """Fields of float32 with two channels, and irregular times."""
    y, x = np.mgrid[0:24, 0:40] / 9
    stack = np.stack([np.stack([np.sin(x + y * t), 3 * np.cos(x * t)], axis=2) for t in range(7)])
    return stack.astype(np.float32), np.array([0, 0.1, 0.30000000000000004, 1, 2.5, 2.75, 1e3])


@pytest.fixture
def arrays(tmp_path, waves):
    """A folder with the fields as ``run.npy`` and their times as text."""
    np.save(tmp_path / "run.npy", waves[0])
    (tmp_path / "times.txt").write_text("".join(f"{time!r}\n" for time in waves[1].tolist()))
    return tmp_path


def test_an_array_becomes_a_movie_and_the_same_array(run, arrays, waves):
    fields, times = waves
    result = run("movie", "convert", "run.npy", "-o", "run.mkv", "--times", "times.txt", "--channels", "u|v", "--fps", "5",
                 "--info", '{"D": 0.1}')  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.output.startswith("run.mkv: 7 fields of 24 x 40 x 2 float32")
    movie = nf.MovieStorage(arrays / "run.mkv")
    assert movie[...].tobytes() == fields.tobytes()
    assert movie.times.tolist() == times.tolist()
    assert (movie.channels, movie.info, movie.fps, movie.bits) == (("u", "v"), {"D": 0.1}, 5, "exact")
    # The limits are those of all fields, for each channel.
    assert movie.vmin == tuple(fields.min((0, 1, 2)))
    assert movie.vmax == tuple(fields.max((0, 1, 2)))
    assert run("movie", "convert", "run.mkv", "-o", "back.npy").exit_code == 0
    again = np.load(arrays / "back.npy")
    assert again.dtype == np.float32
    assert again.tobytes() == fields.tobytes()
    assert np.load(arrays / "back.times.npy").tolist() == times.tolist()
    # The times beside an array are found.
    assert run("movie", "convert", "back.npy", "-o", "twice.mp4").exit_code == 0
    twice = nf.MovieStorage(arrays / "twice.mp4")
    assert twice[...].tobytes() == fields.tobytes()
    assert twice.times.tolist() == times.tolist()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "bool", "float64", "complex64", ">f4"])
def test_numbers_of_every_dtype_are_kept(run, arrays, dtype):
    random = np.random.default_rng(3)
    fields = (random.normal(size=(3, 9, 11)) * 100).astype(dtype)
    if dtype == "complex64":
        fields += 1j * fields[::-1]
    np.save(arrays / "a.npy", fields)
    assert run("movie", "convert", "a.npy", "-o", "a.mkv").exit_code == 0
    assert run("movie", "convert", "a.mkv", "-o", "b.npy").exit_code == 0
    again = np.load(arrays / "b.npy")
    if dtype == "complex64":
        assert again.dtype == np.float32
        again = again.view(np.complex64)[..., 0]
    np.testing.assert_array_equal(again, fields)
    assert again.dtype == fields.dtype.newbyteorder("=")


def test_levels_have_limits_that_are_given_or_found(run, arrays, waves):
    fields, _ = waves
    low, high = fields.min((0, 1, 2)), fields.max((0, 1, 2))
    for options, vmin, vmax in (
        ((), low, high),
        (("--vmin", "-5", "--vmax", "auto"), [-5, -5], high),
        (("--vmin", "auto", "--vmax", "2,4"), low, [2, 4]),
    ):
        for bits in (8, 16):
            assert run("movie", "convert", "run.npy", "-o", "a.mkv", "--bits", bits, *options).exit_code == 0
            movie = nf.MovieStorage(arrays / "a.mkv")
            assert movie.bits == bits
            np.testing.assert_allclose([movie.vmin, movie.vmax], [vmin, vmax], rtol=1e-12)
            half_step = (np.array(vmax) - vmin) / (2**bits - 1) / 2
            assert (abs(movie[...].astype(float) - fields) <= half_step * 1.001 + 1e-6).all()


def test_a_movie_becomes_a_movie_of_another_kind(run, arrays, waves):
    with nf.MovieStorage(arrays / "a.mkv", mode="w", bits=32, vmin=[-1, -3], vmax=[1, 3], channels="u|v", fps=3, info={"a": 1}) as movie:  # fmt: skip
        for field, time in zip(*waves, strict=True):
            movie.append(field, time)
    for target in ("b.mp4", "b.avi"):
        bits = () if target == "b.mp4" else ("--bits", 16)
        assert run("movie", "convert", "a.mkv", "-o", target, *bits).exit_code == 0
        other = nf.MovieStorage(arrays / target)
        assert abs(other[...].astype(float) - waves[0]).max() <= (0 if target == "b.mp4" else 3.001 / 65535)
        assert other.times.tolist() == waves[1].tolist()
        assert (other.channels, other.info, other.fps) == (("u", "v"), {"a": 1}, 3)
        assert (other.vmin, other.vmax) == ((-1, -3), (1, 3))
    assert not [path.name for path in arrays.iterdir() if "part" in path.name]


def test_a_folder_of_arrays_is_read_in_natural_order(run, arrays, waves):
    (arrays / "fields").mkdir()
    for number in range(12):
        np.save(arrays / "fields" / f"field{number}.npy", np.full((6, 8), number, np.uint16))
    (arrays / "fields" / "notes.txt").write_text("no field")
    assert run("movie", "convert", "fields", "-o", "a.mkv").exit_code == 0
    movie = nf.MovieStorage(arrays / "a.mkv")
    assert movie[:, 0, 0].tolist() == list(range(12))
    assert movie.times.tolist() == list(range(12))
    assert run("movie", "convert", "fields", "-o", "a.npy").exit_code == 0
    np.testing.assert_array_equal(np.load(arrays / "a.npy"), movie[...])


def test_a_folder_of_zarr_is_read_by_zarr(run, arrays, waves, monkeypatch):
    (arrays / "run.zarr").mkdir()
    (arrays / "run.zarr" / "zarr.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(nf.MissingExtraError, match="pip install zarr"):
        open_stack(str(arrays / "run.zarr"))
    opened = []
    fake = SimpleNamespace(open=lambda path, mode: opened.append((path, mode)) or waves[0])
    monkeypatch.setitem(sys.modules, "zarr", fake)
    assert run("movie", "convert", "run.zarr", "-o", "a.mkv").exit_code == 0
    assert nf.MovieStorage(arrays / "a.mkv")[...].tobytes() == waves[0].tobytes()
    assert opened == [("run.zarr", "r")]
    monkeypatch.setitem(sys.modules, "zarr", SimpleNamespace(open=lambda path, mode: {"v": 1, "u": 2}))
    result = run("movie", "convert", "run.zarr", "-o", "b.mkv")
    assert result.exit_code == 2
    assert "run.zarr is a group of arrays: u, v" in result.stderr


@pytest.mark.parametrize("version", [2, 3])
def test_a_folder_that_zarr_wrote_is_read(run, arrays, waves, version):
    zarr = pytest.importorskip("zarr")
    options = {"chunks": (1, *waves[0].shape[1:]), "zarr_format": version}
    stored = zarr.create_array(str(arrays / "run.zarr"), shape=waves[0].shape, dtype=waves[0].dtype, **options)
    stored[...] = waves[0]
    assert run("movie", "convert", "run.zarr", "-o", "a.mkv").exit_code == 0
    assert nf.MovieStorage(arrays / "a.mkv")[...].tobytes() == waves[0].tobytes()


def test_a_file_of_py_pde_is_converted(run, arrays):
    fields = np.random.default_rng(2).random((4, 1, 10, 14))
    levels = truncate(fields.transpose(1, 0, 2, 3).reshape(1, -1, 14), [0], [1], "gray16le").reshape(4, 1, 10, 14)
    write_like_pde(arrays / "pde.avi", levels, {"vmin": 0, "vmax": 1}, write_times=[0, 0.5, 1, 4])
    assert run("movie", "convert", "pde.avi", "-o", "a.npy").exit_code == 0
    np.testing.assert_allclose(np.load(arrays / "a.npy"), levels[:, 0] / 65535, rtol=1e-12)
    assert np.load(arrays / "a.times.npy").tolist() == [0, 0.5, 1, 4]
    assert run("movie", "convert", "pde.avi", "-o", "a.mkv").exit_code == 0
    movie = nf.MovieStorage(arrays / "a.mkv")
    np.testing.assert_array_equal(movie[...], np.load(arrays / "a.npy"))
    assert movie.times.tolist() == [0, 0.5, 1, 4]


def test_info_describes_a_movie(run, arrays, waves):
    run(
        "movie",
        "convert",
        "run.npy",
        "-o",
        "a.mkv",
        "--times",
        "times.txt",
        "--channels",
        "u|v",
        "--info",
        '{"D": 0.1}',
    )
    facts = json.loads(run("movie", "info", "a.mkv", "--json").output)
    assert facts == {
        "path": "a.mkv",
        "fields": 7,
        "shape": [7, 24, 40, 2],
        "dtype": "float32",
        "bits": "exact",
        "channels": ["u", "v"],
        "complex": False,
        "vmin": waves[0].min((0, 1, 2)).tolist(),
        "vmax": waves[0].max((0, 1, 2)).tolist(),
        "times": waves[1].tolist(),
        "fps": 25.0,
        "complete": True,
        "raw_bytes": waves[0].nbytes,
        "file_bytes": (arrays / "a.mkv").stat().st_size,
        "info": {"D": 0.1},
    }
    shown = run("movie", "info", "a.mkv").output
    limits = [
        f"{code}: {low:g} to {high:g}\n" for code, low, high in zip("uv", facts["vmin"], facts["vmax"], strict=True)
    ]
    for text in ("7 of 24 x 40 (y x x), 2 channels, float32", *limits, "exactly", "0 to 1000, 0.1 to",
                 "complete  yes", "D: 0.1"):  # fmt: skip
        assert text in shown, shown


def test_info_says_that_a_writer_was_killed(run, arrays, waves):
    movie = nf.MovieStorage(arrays / "a.mkv", mode="w", vmin=-3, vmax=3)
    movie.append(waves[0][0])
    movie.append(waves[0][1])
    result = run("movie", "info", "a.mkv")
    assert "complete  no: it is being written, or its writer was killed" in result.output
    assert "as levels of 16 bits" in result.output
    assert json.loads(run("movie", "info", "a.mkv", "--json").output)["fields"] == 2
    movie.close()


def test_export_writes_the_video_of_the_library(run, arrays, waves):
    run("movie", "convert", "run.npy", "-o", "a.mkv", "--channels", "u|v")
    result = run("movie", "export", "a.mkv", "-o", "v.mkv", "--channel", "v", "--cmap", "magma", "--vmin", "-1", "--vmax", "auto",
                 "--scale", "4", "--fps", "30000/1001")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.output.startswith("v.mkv: 7 frames of 96 x 160 x 3")
    movie, rate = nf.MovieStorage(arrays / "a.mkv"), Fraction(30000, 1001)
    movie.export(arrays / "own.mkv", "magma", "v", rate, -1, float(waves[0][..., 1].max()), scale=4)
    shown, own = (nf.read_video(arrays / name, workdir=arrays) for name in ("v.mkv", "own.mkv"))
    np.testing.assert_array_equal(shown, own)
    assert round(nf.video_metadata(arrays / "v.mkv", workdir=arrays).fps, 3) == 29.97
    report = json.loads(run("movie", "export", "a.mkv", "-o", "u.mp4", "--json").output)
    assert (report["frames"], report["shape"]) == (7, [288, 480, 3])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("convert", "missing.npy", "-o", "a.mkv"), "missing.npy does not exist"),
        (("convert", "run.npy", "-o", "a.webm"), "no container of movies ends in '.webm'"),
        (("convert", "run.npy", "-o", "missing/a.mkv"), "there is no folder missing"),
        (("convert", "run.npy", "-o", "run.npy"), "run.npy is the file that is read"),
        (("convert", "run.npy", "-o", "a.avi"), "a.avi: AVI holds levels of 8 or 16 bits"),
        (("convert", "run.npy", "-o", "a.mkv", "--channels", "u"), "channels='u' names 1"),
        (("convert", "run.npy", "-o", "a.mkv", "--vmin", "x"), "write a number, 'auto'"),
        (("convert", "run.npy", "-o", "a.mkv", "--vmin", "1,2,3"), "vmin has 3 numbers for 2 channels"),
        (("convert", "run.npy", "-o", "a.mkv", "--bits", "16", "--vmin", "9", "--vmax", "1"), "must be below"),
        (("convert", "run.npy", "-o", "a.mkv", "--info", "[1]"), "write an object"),
        (("convert", "run.npy", "-o", "a.mkv", "--info", "{"), "is not JSON"),
        (("convert", "run.npy", "-o", "a.npy", "--bits", "16", "--vmin", "0"), "is an array, which has no bits, vmin"),
        (("convert", "run.npy", "-o", "a.mkv", "--times", "few.txt"), "give 7 finite numbers"),
        (("convert", "run.npy", "-o", "a.mkv", "--times", "words.txt"), "is not a list of times"),
        (("convert", "run.npy", "-o", "a.mkv", "--times", "none.txt"), "none.txt cannot be read"),
        (("convert", "image.npy", "-o", "a.mkv"), "has the shape (4, 5); fields are (t, y, x)"),
        (("convert", "empty.npy", "-o", "a.mkv"), "has no fields"),
        (("convert", "objects.npy", "-o", "a.mkv"), "is not an array of numbers"),
        (("convert", "cut.npy", "-o", "a.mkv"), "damaged"),
        (("convert", "words.txt", "-o", "a.mkv"), "not a movie of fields"),
        (("convert", "mixed", "-o", "a.mkv"), "a.mkv: field 1 has the shape (4, 6), and the movie (4, 5)"),
        (("convert", "mixed", "-o", "a.npy"), "mixed: field 1 is (4, 6)"),
        (("convert", "nothing", "-o", "a.mkv"), "nothing has no fields"),
        (("convert", "nan.npy", "-o", "a.mkv", "--bits", "16"), "a.mkv: field 2: 1 of 20 values are NaN"),
        (("info", "run.npy"), "run.npy is not a movie of fields"),
        (("export", "run.npy", "-o", "a.mp4"), "run.npy is not a movie of fields"),
    ],
)  # fmt: skip
def test_errors_are_one_line_and_leave_nothing(run, arrays, waves, arguments, text):
    np.save(arrays / "image.npy", np.zeros((4, 5)))
    np.save(arrays / "empty.npy", np.zeros((0, 4, 5)))
    np.save(arrays / "objects.npy", np.array([[[None]]]), allow_pickle=True)
    (arrays / "cut.npy").write_bytes((arrays / "run.npy").read_bytes()[:-9])
    (arrays / "few.txt").write_text("1\n2\n")
    (arrays / "words.txt").write_text("one\n")
    (arrays / "nothing").mkdir()
    (arrays / "mixed").mkdir()
    np.save(arrays / "mixed" / "0.npy", np.zeros((4, 5)))
    np.save(arrays / "mixed" / "1.npy", np.zeros((4, 6)))
    with_nan = np.zeros((3, 4, 5))
    with_nan[2, 1, 1] = np.nan
    np.save(arrays / "nan.npy", with_nan)
    (arrays / "a.mkv").write_bytes(b"old")
    before = {path: path.read_bytes() for path in arrays.iterdir() if path.is_file()}
    result = run("movie", *arguments)
    assert result.exit_code == 2
    assert text in result.stderr
    assert "part" not in result.stderr
    after = {path: path.read_bytes() for path in arrays.iterdir() if path.is_file()}
    assert after == before


def test_nan_is_marked_or_cut_on_wish(run, arrays):
    field = np.array([[[0, np.nan], [0.5, 1]]])
    np.save(arrays / "a.npy", field)
    for policy, expected in (("channel", np.nan), ("clip", 0)):
        assert run("movie", "convert", "a.npy", "-o", "a.mkv", "--bits", "16", "--nan", policy).exit_code == 0
        found = nf.MovieStorage(arrays / "a.mkv")[...]
        np.testing.assert_allclose(found, np.nan_to_num(field, nan=expected), atol=1e-5)


def test_progress_and_json_do_not_mix(spawn, arrays):
    process = spawn("movie", "convert", "run.npy", "-o", "a.mkv", "--json")
    out, err = process.communicate()
    assert json.loads(out)["frames"] == 7
    assert err == ""
