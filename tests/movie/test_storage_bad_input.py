"""What MovieStorage refuses: with an error that says which field, and nothing lost of what was written."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import resource
import signal
import struct

import av
import numpy as np
import pytest

import ndframes as nf

FIELD = np.arange(12.0).reshape(3, 4) / 12


def begin(path, **options) -> nf.MovieStorage:
    movie = nf.MovieStorage(path, mode="w", **options)
    movie.append(FIELD)
    return movie


@pytest.mark.parametrize(
    ("field", "error", "words"),
    [
        (np.zeros((4, 4)), nf.MovieGridError, r"field 1 has the shape \(4, 4\), and the movie \(3, 4\)"),
        (np.zeros((3, 4, 2)), nf.MovieGridError, r"\(3, 4, 2\)"),
        (np.zeros((3, 4, 1)), nf.MovieGridError, r"\(3, 4, 1\)"),
        (np.zeros((2, 3, 4, 1)), nf.MovieGridError, r"\(2, 3, 4, 1\)"),
        (np.zeros((0, 4)), nf.MovieGridError, "not empty"),
        (3.5, nf.MovieGridError, r"\(\)"),
        (["a", "b"], nf.MovieGridError, "U1"),
        (None, nf.MovieGridError, "object"),
        (np.zeros((3, 4), np.longdouble), nf.MovieGridError, "128"),
        ([np.zeros((3, 4)), np.zeros((4, 3))], nf.MovieGridError, "several shapes"),
        (np.full((3, 4), np.nan), nf.MovieRangeError, "field 1: 12 of 12 values are NaN.*nan='clip'"),
        ([[1], [2, 3]], nf.MovieError, "not an array"),
        (
            np.ma.masked_greater(np.arange(12).reshape(3, 4), 7),
            nf.MovieGridError,
            "field 1 has 4 masked values.*filled",
        ),
        (np.ma.masked_greater(FIELD, 0.5), nf.MovieRangeError, "5 of 12 values are NaN"),
    ],
)
def test_a_refused_field_leaves_the_movie_as_it_was(tmp_path, field, error, words):
    movie = begin(tmp_path / "a.mkv")
    with pytest.raises(error, match=words):
        movie.append(field)
    assert movie.append(FIELD / 2) == 1
    movie.close()
    found = nf.MovieStorage(tmp_path / "a.mkv")
    assert len(found) == 2
    assert np.abs(found[1] - FIELD / 2).max() < 1e-5


@pytest.mark.parametrize("time", ["x", None if False else [], float("nan"), float("inf"), object(), 10**400])
def test_a_refused_time(tmp_path, time):
    movie = begin(tmp_path / "a.mkv")
    with pytest.raises(nf.MovieError, match="field 1: time="):
        movie.append(FIELD, time)
    movie.close()
    assert len(nf.MovieStorage(tmp_path / "a.mkv")) == 1


def test_values_outside_with_an_error(tmp_path):
    movie = begin(tmp_path / "a.mkv", clip="raise")
    with pytest.raises(nf.MovieRangeError, match=r"field 1: 10 values are outside.*-1 to 10, the limits are 0 to 1"):
        movie.append(FIELD * 12 - 1)
    # Within half a level of the limit.
    movie.append(np.clip(FIELD, 0, 1) + 0.2 / 65535)
    assert movie.close().clipped == 0


def test_exact_movies_refuse_what_they_would_change(tmp_path):
    with nf.MovieStorage(tmp_path / "a.mkv", mode="w") as movie:
        movie.append(np.zeros((3, 4), np.uint8))
        for other in (np.uint16, np.int8, np.float32, np.int64):
            with pytest.raises(nf.MovieGridError, match="field 1 is of"):
                movie.append(np.zeros((3, 4), other))
        movie.append(np.ones((3, 4), bool))
    assert nf.MovieStorage(tmp_path / "a.mkv")[:, 0, 0].tolist() == [0, 1]
    with nf.MovieStorage(tmp_path / "b.mkv", mode="w", bits=32) as movie:
        with pytest.raises(nf.MovieGridError, match="bits='exact'"):
            movie.append(np.zeros((3, 4), np.int64))
        movie.append(np.zeros((3, 4), np.int16))


@pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1, -(2**53) - 1])
def test_integers_that_floats_would_round(tmp_path, number):
    field = np.full((3, 4), number)
    for first, options in ((field, {"bits": 64}), ([field, FIELD], {"bits": "exact"})):
        with pytest.raises(nf.MovieGridError, match="int64 values that float64 does not hold exactly"):
            nf.MovieStorage(tmp_path / "a.mkv", mode="w", **options).append(first)
    movie = begin(tmp_path / "a.mkv", bits="exact")
    with pytest.raises(nf.MovieGridError, match="field 1 has int64 values"):
        movie.append(field)
    movie.append(np.full((3, 4), 2**53 + 2))
    movie.append(np.full((3, 4), -(2**63)))
    movie.close()
    assert nf.MovieStorage(tmp_path / "a.mkv")[1:, 0, 0].tolist() == [2.0**53 + 2, -(2.0**63)]


def test_numbers_that_become_infinite(tmp_path):
    movie = begin(tmp_path / "a.mkv", bits=32)
    with pytest.raises(nf.MovieRangeError, match="field 1 has values that float32 does not hold"):
        movie.append(FIELD * 1e300)
    movie.append(np.full((3, 4), np.inf))
    movie.close()
    assert np.isinf(nf.MovieStorage(tmp_path / "a.mkv")[1]).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bits": 12}, "bits=12; give 8, 16, 32, 64, or 'exact'"),
        ({"bits": True}, "bits=True"),
        ({"bits": "all"}, "bits='all'"),
        ({"mode": "rw"}, "mode='rw'.*'a'"),
        ({"codec": "h264"}, "codec='h264'.*'packed'"),
        ({"clip": "no"}, "clip='no'"),
        ({"nan": 0}, "nan=0"),
        ({"durable": "yes"}, "durable='yes'"),
        ({"fps": 0}, "fps=0"),
        ({"fps": "x"}, "fps='x'"),
        ({"transform": 3}, "transform"),
        ({"info": 3}, "info=3"),
    ],
)
def test_options_that_are_not_allowed(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        nf.MovieStorage(tmp_path / "a.mkv", **{"mode": "w", **options})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"vmin": 1, "vmax": 1}, "must be below"),
        ({"vmin": 2}, "must be below"),
        ({"vmin": -1e308, "vmax": 1e308}, "no 65,536 floats"),
        ({"vmax": 5e-324}, "no 65,536 floats"),
        ({"vmin": 0.5e-305, "vmax": 0.6e-305}, "no 65,536 floats"),
        ({"vmin": [0, 0]}, "one for each of 1 channel"),
        ({"vmax": float("nan")}, "vmax=nan"),
        ({"vmax": "all"}, "'auto'"),
        ({"vmin": object()}, "vmin="),
        ({"channels": "u|v"}, "names 2"),
        ({"codec": "packed", "bits": 16}, "codec='packed' does not hold levels of 16 bits"),
        ({"codec": "ffv1", "bits": 32}, "codec='ffv1' does not hold exact float32"),
        ({"info": {"a": object()}}, "JSON"),
        ({"info": {"a": float("nan")}}, "JSON"),
    ],
)
def test_options_that_do_not_fit_the_first_field(tmp_path, options, words):
    movie = nf.MovieStorage(tmp_path / "a.mkv", mode="w", **options)
    with pytest.raises(nf.MovieError, match=words):
        movie.append(FIELD)
    assert not list(tmp_path.iterdir())


def test_a_channel_that_is_named_twice(tmp_path):
    with pytest.raises(nf.ChannelError, match="twice"):
        nf.MovieStorage(tmp_path / "a.mkv", mode="w", channels="u|v|u")


def test_nan_channel_of_too_many_channels(tmp_path):
    movie = nf.MovieStorage(tmp_path / "a.mkv", mode="w", bits=8, nan="channel")
    with pytest.raises(nf.MovieError, match="up to 8 channels"):
        movie.append(np.zeros((3, 4, 9)))


def test_paths_that_no_movie_can_have(tmp_path):
    for name, error in (("a.gif", nf.MovieFormatError), ("a", nf.MovieFormatError), ("no/a.mkv", nf.OutputError)):
        with pytest.raises(error, match=name):
            nf.MovieStorage(tmp_path / name, mode="w")
    (tmp_path / "folder.mkv").mkdir()
    with pytest.raises(nf.OutputError, match="regular file"):
        nf.MovieStorage(tmp_path / "folder.mkv", mode="w")
    movie = nf.MovieStorage(tmp_path / "a.avi", mode="w", bits=64)
    with pytest.raises(nf.MovieFormatError, match=r"AVI.*\.mkv or \.mp4"):
        movie.append(FIELD)
    begin(tmp_path / "a.mkv").close()
    with pytest.raises(nf.OutputError, match="mode='w'"):
        nf.MovieStorage(tmp_path / "a.mkv", mode="x")


def test_files_that_are_no_movies(tmp_path):
    with pytest.raises(nf.SourceMissingError, match="check the path"):
        nf.MovieStorage(tmp_path / "missing.mkv")
    nf.write_video(tmp_path / "video.mkv", np.zeros((3, 32, 32, 3), np.uint8), 25)
    (tmp_path / "empty.mkv").write_bytes(b"")
    (tmp_path / "text.mkv").write_bytes(b"hello")
    (tmp_path / "folder.mkv").mkdir()
    for name in ("video", "empty", "text", "folder"):
        for mode in ("r", "a"):
            with pytest.raises(nf.NdframesError, match=f"{name}.mkv"):
                nf.MovieStorage(tmp_path / f"{name}.mkv", mode=mode)
    assert (tmp_path / "text.mkv").read_bytes() == b"hello"


@pytest.mark.parametrize("container", ["mkv", "mp4", "avi"])
def test_a_description_of_any_length_is_read_or_refused(tmp_path, container):
    for letters in (10_000, 66_000, 1_000_000):
        path = tmp_path / f"{letters}.{container}"
        begin(path, info={"note": "é" * letters}).close()
        movie = nf.MovieStorage(path)
        assert movie.info == {"note": "é" * letters}
        assert np.abs(movie[0] - FIELD).max() < 1e-5
    for note, words in (("x" * (1 << 23), "at most 8,388,608"), ("\ud800", "JSON")):
        movie = nf.MovieStorage(tmp_path / f"b.{container}", mode="w", info={"note": note})
        with pytest.raises(nf.MovieError, match=words):
            movie.append(FIELD)
    assert not list(tmp_path.glob("*b.*"))


def replace_comment(path, target, old: bytes, new: bytes) -> None:
    assert len(old) == len(new)
    data = path.read_bytes()
    assert old in data
    target.write_bytes(data.replace(old, new))


def test_descriptions_that_are_newer_or_damaged(tmp_path):
    begin(tmp_path / "a.mkv").close()
    for old, new, words in (
        (b'"ndframes-movie": 1', b'"ndframes-movie": 2', "version 2.*upgrade"),
        (b'"shape": [3, 4, 1]', b'"shape": [3, 0, 1]', "damaged"),
        (b'"coding": "levels"', b'"coding": "labels"', "damaged"),
        (b'"shape"', b'"shade"', "damaged"),
    ):
        replace_comment(tmp_path / "a.mkv", tmp_path / "b.mkv", old, new)
        with pytest.raises(nf.MovieFormatError, match=words):
            nf.MovieStorage(tmp_path / "b.mkv")


@pytest.mark.parametrize("container", ["mkv", "mp4", "avi"])
def test_each_damaged_byte_of_a_description_is_noticed(tmp_path, container):
    begin(tmp_path / f"a.{container}").close()
    data = (tmp_path / f"a.{container}").read_bytes()
    start = data.index(b'"shape"')
    damaged = tmp_path / f"b.{container}"
    for place in range(start, data.index(b'"crc32"')):
        damaged.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(nf.MovieFormatError, match=f"b.{container}"):
            nf.MovieStorage(damaged)


@pytest.mark.parametrize("bits", [16, "exact"])
@pytest.mark.parametrize(
    "change",
    [
        {"shape": [10**9, 10**9, 1]},
        {"shape": [30000, 30000, 1]},
        {"shape": [3, 4, 10**9]},
        {"shape": [4, 4, 1]},
        {"dtype": "O"},
        {"dtype": "<f16"},
        {"dtype": "S9"},
        {"bits": 9},
        {"vmin": []},
        {"vmax": ["nan"]},
        {"fps": "1e999999999"},
        {"fps": "0"},
        {"nan": "x"},
        {"info": 3},
        {"channels": 3},
        {"channels": ["a", "b"]},
    ],
)
def test_descriptions_that_no_movie_has(tmp_path, bits, change):
    begin(tmp_path / "a.mkv", bits=bits).close()
    data = (tmp_path / "a.mkv").read_bytes()
    start = data.index(b'{"ndframes-movie"')
    stored, length = json.JSONDecoder().raw_decode(data[start:].decode("latin1"))
    del stored["crc32"]
    made = json.dumps({**stored, **change}).ljust(length).encode()
    assert len(made) == length
    (tmp_path / "b.mkv").write_bytes(data[:start] + made + data[start + length :])
    with pytest.raises((nf.MovieError, nf.RegionTooLargeError)):
        nf.MovieStorage(tmp_path / "b.mkv")[0]


@pytest.mark.parametrize("container", ["mkv", "mp4"])
@pytest.mark.parametrize("bits", [16, "exact"])
def test_a_damaged_field_is_an_error_that_names_it(tmp_path, container, bits):
    path = tmp_path / f"a.{container}"
    random = np.random.default_rng(0)
    fields = random.random((5, 30, 40))
    with nf.MovieStorage(path, mode="w", bits=bits) as movie:
        movie.extend(fields)
    row = nf.MovieStorage(path)._source.places.table[3]
    start, size = (row["values"], row["values_bytes"]) if bits == "exact" else (row["picture"], row["picture_bytes"])
    for place in random.integers(start + 4, start + size, 12).tolist():
        data = bytearray(path.read_bytes())
        data[place] ^= 0x40
        (tmp_path / f"damaged.{container}").write_bytes(data)
        movie = nf.MovieStorage(tmp_path / f"damaged.{container}")
        with pytest.raises(nf.MovieError, match=r"damaged\.\w+: frame 3 of 5"):
            movie[3]
        assert np.abs(movie[[0, 1, 2, 4]] - fields[[0, 1, 2, 4]]).max() < 1e-5


def test_a_damaged_table_is_replaced_by_a_walk(tmp_path):
    for container in ("mkv", "mp4", "avi"):
        path = tmp_path / f"a.{container}"
        with nf.MovieStorage(path, mode="w") as movie:
            movie.extend(np.random.default_rng(0).random((5, 30, 40)))
        expected = nf.MovieStorage(path)[...]
        data = bytearray(path.read_bytes())
        data[-60] ^= 1
        path.write_bytes(data)
        movie = nf.MovieStorage(path)
        assert np.array_equal(movie[...], expected)
        assert not movie.is_complete


@pytest.mark.parametrize(
    ("container", "bits"), [("mkv", 16), ("mkv", "exact"), ("mp4", 16), ("mp4", "exact"), ("avi", 16)]
)
def test_damage_anywhere_is_an_error_of_ours(tmp_path, container, bits):
    path = tmp_path / f"a.{container}"
    with nf.MovieStorage(path, mode="w", bits=bits) as movie:
        movie.extend(np.random.default_rng(2).random((3, 5, 6)))
    data = path.read_bytes()[:-60]  # without the table at the end, so that the frames are looked for
    random = np.random.default_rng(5)
    damaged = tmp_path / f"b.{container}"
    for _ in range(20):
        changed = bytearray(data[: random.integers(len(data) // 2, len(data) + 1)])
        # Only FFmpeg reads the first bytes.
        for place in random.integers(len(changed) // 3, len(changed), 3):
            changed[place] = random.integers(256)
        damaged.write_bytes(changed)
        try:
            movie = nf.MovieStorage(damaged)
            found = [movie[number] for number in range(len(movie))]
        except nf.NdframesError:
            continue
        assert all(each.shape == (5, 6) for each in found)


@pytest.mark.parametrize("text", [b"0.6x5", b"\xff\xfe\xfd\xfc\xfb"])
def test_a_damaged_time_keeps_its_field(tmp_path, text):
    fields = np.random.default_rng(2).random((3, 5, 6))
    movie = nf.MovieStorage(tmp_path / "a.mkv", mode="w", bits="exact")
    for number, field in enumerate(fields):
        movie.append(field, 0.125 + number / 2)
    data = (tmp_path / "a.mkv").read_bytes()
    assert data.count(b"t = 0.625") == 1
    (tmp_path / "b.mkv").write_bytes(data.replace(b"t = 0.625", b"t = " + text))
    movie.close()
    found = nf.MovieStorage(tmp_path / "b.mkv")
    assert np.array_equal(found[...], fields)
    assert np.array_equal(found.times, [0.125, np.nan, 1.125], equal_nan=True)


@pytest.mark.parametrize("target", ["mkv", "mp4", "mov"])
def test_a_copy_without_the_numbers_is_refused(tmp_path, target):
    begin(tmp_path / "a.mkv", bits="exact").close()
    copied = tmp_path / f"b.{target}"
    with av.open(tmp_path / "a.mkv") as source, av.open(copied, "w") as copy:
        copy.metadata.update(source.metadata)
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                copy.mux(packet)
    with pytest.raises(nf.MovieFormatError, match=r"has the previews of 1 field, and their numbers cannot be found"):
        nf.MovieStorage(copied)


def write_until_full(path, container: str, bits, pipe) -> None:
    """Write with a limit on the size of files, which fails as a full disk does."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    movie = nf.MovieStorage(path, mode="w", bits=bits)
    count = 0
    try:
        for number in range(1000):
            movie.append(np.random.default_rng(number).random((40, 50)))
            count += 1
    except nf.OutputError as error:
        pipe.send((count, str(error), repr(movie)))
    try:
        movie.append(np.zeros((40, 50)))
    except nf.MovieError as error:
        pipe.send(str(error))


@pytest.mark.parametrize("container", ["mkv", "mp4", "avi"])
@pytest.mark.parametrize("bits", [16, "exact"])
def test_a_full_disk_keeps_what_was_written(tmp_path, container, bits):
    if (container, bits) == ("avi", "exact"):
        container = "mov"
    path = tmp_path / f"a.{container}"
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=write_until_full, args=(path, container, bits, sender))
    process.start()
    sender.close()
    assert receiver.poll(120)
    count, message, _ = receiver.recv()
    assert f"field {count:,} cannot be written: File too large" in message
    assert "takes no more fields, writing to it failed" in receiver.recv()
    process.join(60)
    assert not process.exitcode
    movie = nf.MovieStorage(path)
    assert count - 1 <= len(movie) <= count + 1
    for number in range(len(movie)):
        assert np.abs(movie[number] - np.random.default_rng(number).random((40, 50))).max() < 1e-5
    if container != "avi":
        with nf.MovieStorage(path, mode="a") as movie:
            movie.append(np.ones((40, 50)))
        assert np.array_equal(nf.MovieStorage(path)[-1], np.ones((40, 50)))
    assert sorted(item.name for item in tmp_path.iterdir()) == [path.name] + ["a.avi.times"] * (container == "avi")


def test_two_writers_of_one_file(tmp_path):
    movie = begin(tmp_path / "a.mkv")
    with pytest.raises(nf.OutputError, match="another process writes it"):
        nf.MovieStorage(tmp_path / "a.mkv", mode="a")
    movie.append(FIELD)
    movie.close()
    assert len(nf.MovieStorage(tmp_path / "a.mkv")) == 2
    with pytest.raises(nf.MovieError, match="takes no more fields, it was closed"):
        movie.append(FIELD)
    with pytest.raises(nf.MovieError, match="takes no more fields, it is open for reading"):
        nf.MovieStorage(tmp_path / "a.mkv").append(FIELD)


def fail_after(path, count: int) -> None:
    with nf.MovieStorage(path, mode="w") as movie:
        movie.extend([FIELD] * count)
        raise ZeroDivisionError


def test_an_error_in_a_with_block_keeps_the_fields(tmp_path):
    with pytest.raises(ZeroDivisionError):
        fail_after(tmp_path / "a.mkv", 1)
    found = nf.MovieStorage(tmp_path / "a.mkv")
    assert found.is_complete
    assert len(found) == 1
    with pytest.raises(ZeroDivisionError):
        fail_after(tmp_path / "b.mkv", 0)
    assert not (tmp_path / "b.mkv").exists()


def append_in_context(movie: nf.MovieStorage, field) -> None:
    with movie:
        movie.append(field)


@pytest.mark.parametrize("append", [nf.MovieStorage.append, append_in_context])
def test_a_first_field_that_is_refused_replaces_nothing(tmp_path, append):
    begin(tmp_path / "a.mkv").close()
    before = (tmp_path / "a.mkv").read_bytes()
    movie = nf.MovieStorage(tmp_path / "a.mkv", mode="w")
    with pytest.raises(nf.MovieRangeError, match="field 0: 12 of 12"):
        append(movie, FIELD * np.nan)
    del movie
    assert (tmp_path / "a.mkv").read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["a.mkv"]


def test_a_forgotten_movie_is_closed(tmp_path, caplog):
    movie = begin(tmp_path / "a.mkv")
    del movie
    assert nf.MovieStorage(tmp_path / "a.mkv").is_complete
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_a_movie_of_another_encoder_is_not_continued(tmp_path):
    path = tmp_path / "a.mkv"
    begin(path).close()
    data = path.read_bytes()
    with av.open(str(path)) as container:
        extradata = bytes(container.streams.video[0].codec_context.extradata)
    path.write_bytes(data.replace(extradata, extradata[:-1] + struct.pack("B", extradata[-1] ^ 1)))
    before = path.read_bytes()
    with pytest.raises(nf.MovieFormatError, match="another version of the encoder"):
        nf.MovieStorage(path, mode="a")
    assert path.read_bytes() == before
    begin(tmp_path / "a.avi").close()
    with pytest.raises(nf.MovieFormatError, match="AVI"):
        nf.MovieStorage(tmp_path / "a.avi", mode="a")


def test_a_movie_that_is_replaced_while_it_is_read(tmp_path):
    movie = begin(tmp_path / "a.mkv")
    reader = nf.MovieStorage(tmp_path / "a.mkv")
    assert len(reader) == 1
    movie.close()
    os.replace(tmp_path / "a.mkv", tmp_path / "b.mkv")
    begin(tmp_path / "a.mkv").close()
    with pytest.raises(nf.SourceChangedError, match="open it again"):
        len(reader)


@pytest.mark.parametrize(("first", "then"), [("f4", "f8"), ("f2", "f4"), ("c8", "c16")])
def test_an_exact_movie_rounds_nothing(tmp_path, first, then):
    path = tmp_path / "a.mkv"
    with nf.MovieStorage(path, mode="w", bits="exact") as movie:
        movie.append(np.ones((3, 4), first))
        with pytest.raises(
            nf.MovieGridError, match=r"a\.mkv: field 1 is of float\d\d, and the movie of float\d\d; convert it"
        ):
            movie.append(np.full((3, 4), 1 / 3, then))
        movie.append(np.full((3, 4), 0.5, first))
    with (
        nf.MovieStorage(path, mode="a", bits="exact") as movie,
        pytest.raises(nf.MovieGridError, match="field 2 is of float"),
    ):
        movie.append(np.full((3, 4), 1 / 3, then))
    assert nf.MovieStorage(path)[:].ravel()[[0, -1]].tolist() == [1, 0 if first == "c8" else 0.5]


@pytest.mark.parametrize(
    ("bits", "stored"),
    [(8, "levels of 8 bits"), (16, "levels of 16 bits"), (32, "exact float32"), (64, "exact float64")],
)
def test_a_movie_is_not_continued_with_other_bits(tmp_path, bits, stored):
    path = tmp_path / "a.mkv"
    with nf.MovieStorage(path, mode="w", bits=bits) as movie:
        movie.append(np.zeros((3, 4)))
    for other in {8, 16, 32, 64, "exact"} - ({bits, "exact"} if bits > 16 else {bits}):
        with pytest.raises(nf.MovieError, match=rf"a\.mkv: bits={other!r}, and the movie has {stored}, which it keeps"):
            nf.MovieStorage(path, mode="a", bits=other)
    for same in (bits, None):
        with nf.MovieStorage(path, mode="a", bits=same) as movie:
            movie.append(np.ones((3, 4)))
    assert nf.MovieStorage(path)[:, 0, 0].tolist() == [0, 1, 1]
