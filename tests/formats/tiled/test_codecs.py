"""Codecs: what is encoded comes back bit for bit, other libraries agree, and damaged bytes give an error and no crash."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kit.synthetic import COMPLEX, DTYPES, FLOATS, INTEGERS, picture

import ndframes as nf
from ndframes.formats.tiled.codecs import (
    DECODE_ERRORS,
    checksum,
    encode_tile,
    find_decoder,
    find_several_decoder,
)
from ndframes.spec.backends import TileCodec, coerce_backend
from ndframes.system import segments

FLAT = ("NONE", "ZSTD", "DEFLATE", "LZW")
LERC_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32")


def codec_of(
    compress: str, dtype: str, bands: int, *, differences: bool = False, quality: int | None = None
) -> TileCodec:
    config = {"compress": compress, "predictor": "YES" if differences else "NO", "quality": quality}
    codec = coerce_backend({"type": "cog", "config": config}).codec_for(np.dtype(dtype), bands)
    assert codec.compress == compress
    return codec


@contextmanager
def among_threads(*, are_others: bool):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ndframes.formats.tiled.codecs.has_other_threads", lambda: are_others)
        yield


def there_and_back(tile: np.ndarray, codec: TileCodec) -> np.ndarray:
    data = encode_tile(tile, codec)
    assert type(data) is bytes
    pixels = find_decoder(codec.compress, codec.predictor, tile.shape, tile.dtype)(data)
    assert (pixels.shape, pixels.dtype) == (tile.shape, tile.dtype)
    several = find_several_decoder(codec.compress, codec.predictor, tile.shape, tile.dtype)
    for are_others in (False, True):
        with among_threads(are_others=are_others):
            for again in several([data, memoryview(b"-" + data)[1:], data]) + several([data]):
                assert (again.shape, again.dtype) == (pixels.shape, pixels.dtype)
                assert_equal_bits(again, pixels)
    return pixels


def assert_equal_bits(got: np.ndarray, wanted: np.ndarray) -> None:
    assert np.ascontiguousarray(got).tobytes() == np.ascontiguousarray(wanted).tobytes()


@st.composite
def tiles(draw, dtypes, bands=(1, 7), least=1):
    """Any bits that a dtype can have, in tiles of any edge; contiguous, transposed, or a part of a larger array."""
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    shape = draw(st.integers(least, 20)), draw(st.integers(least, 20)), draw(st.integers(*bands))
    if dtype.kind == "b":
        tile = draw(hnp.arrays(bool, shape))
    else:
        seed, is_noise = draw(st.integers(0, 2**32 - 1)), draw(st.booleans())
        count = int(np.prod(shape)) * dtype.itemsize
        data = np.random.default_rng(seed).bytes(count) if is_noise else bytes([seed % 256]) * count
        tile = np.frombuffer(data, dtype).reshape(shape).copy()
    layout = draw(st.sampled_from(["as it is", "reversed", "turned", "cut"]))
    if layout == "reversed":
        return tile[::-1, ::-1]
    if layout == "turned":
        return np.asfortranarray(tile)
    if layout == "cut":
        return np.concatenate([tile, tile], axis=1)[:, : tile.shape[1]]
    return tile


@pytest.mark.parametrize("compress", FLAT)
@settings(max_examples=60, deadline=None)
@given(tiles(DTYPES))
def test_any_bits_come_back(compress, tile):
    assert_equal_bits(there_and_back(tile, codec_of(compress, tile.dtype.name, tile.shape[2])), tile)


@pytest.mark.parametrize("compress", FLAT[1:])
@settings(max_examples=60, deadline=None)
@given(tiles((*INTEGERS, *FLOATS)))
def test_any_bits_come_back_from_their_differences(compress, tile):
    codec = codec_of(compress, tile.dtype.name, tile.shape[2], differences=True)
    assert codec.predictor == ("FLOATING_POINT" if tile.dtype.kind == "f" else "STANDARD")
    assert_equal_bits(there_and_back(tile, codec), tile)


@pytest.mark.parametrize("compress", FLAT)
@pytest.mark.parametrize("dtype", ["bool", *COMPLEX])
def test_what_has_no_differences_is_written_as_it_is(dtype, compress):
    for bands in (1, 3, 5):
        codec = codec_of(compress, dtype, bands, differences=True)
        assert codec.predictor == "NO"
        tile = picture((17, 23, bands), dtype)
        assert_equal_bits(there_and_back(tile, codec), tile)


@settings(max_examples=50, deadline=None)
@given(tiles(LERC_DTYPES))
def test_any_whole_numbers_come_back_from_lerc(tile):
    assert_equal_bits(there_and_back(tile, codec_of("LERC", tile.dtype.name, tile.shape[2])), tile)


@settings(max_examples=50, deadline=None)
@given(tiles(["uint8"], bands=(3, 4), least=2), st.sampled_from([None, 0, 255]))
def test_any_colours_come_back_from_webp(tile, alpha):
    """Colours under full transparency, too, and tiles that are opaque throughout."""
    if alpha is not None and tile.shape[2] == 4:
        tile = tile.copy()
        tile[:, :, 3] = alpha
    assert_equal_bits(there_and_back(tile, codec_of("WEBP", "uint8", tile.shape[2], quality=100)), tile)


@pytest.mark.parametrize(("compress", "bands"), [("JPEG", 1), ("JPEG", 3), ("WEBP", 3), ("WEBP", 4)])
@pytest.mark.parametrize("extent", [16, 48, 128])
def test_what_loses_something_loses_little(compress, bands, extent):
    y, x = np.ogrid[:extent, :extent]
    waves = [np.sin(y / 20 + band) * np.cos(x / (15 + band)) for band in range(bands)]
    tile = ((np.stack(waves, axis=2) / 2 + 0.5) * 255).astype(np.uint8)
    differences = {}
    for quality in (60, 95):
        got = there_and_back(tile, codec_of(compress, "uint8", bands, quality=quality))
        differences[quality] = np.abs(got.astype(int) - tile)
    assert differences[95].mean() < 2
    assert 0 < differences[95].mean() < differences[60].mean() < 6


def test_jpeg_keeps_colour_at_full_resolution():
    """A line of one colour on another stays one line."""
    tile = np.zeros((32, 32, 3), np.uint8)
    tile[:, :, 2] = 255
    tile[:, 15] = 255, 0, 0
    got = there_and_back(tile, codec_of("JPEG", "uint8", 3, quality=95)).astype(int)
    assert np.abs(got - tile).max() < 25


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_written_is_little_endian(dtype):
    tile = picture((9, 11, 3), dtype)
    data = encode_tile(tile, codec_of("NONE", dtype, 3))
    if dtype == "bool":
        assert data == np.packbits(tile.reshape(9, 33), axis=1).tobytes()
    else:
        assert data == tile.astype(tile.dtype.newbyteorder("<")).tobytes()
        assert encode_tile(tile.astype(tile.dtype.newbyteorder(">")), codec_of("NONE", dtype, 3)) == data


def test_each_is_what_its_name_says():
    """Held against other libraries, or the codec's own mark."""
    import zlib

    import zstandard

    tile = picture((20, 30, 3))
    encoded = {
        compress: encode_tile(tile, codec_of(compress, "uint8", 3)) for compress in (*FLAT, "LERC", "WEBP", "JPEG")
    }
    assert zstandard.ZstdDecompressor().decompress(encoded["ZSTD"]) == tile.tobytes()
    assert zlib.decompress(encoded["DEFLATE"]) == tile.tobytes()
    assert imagecodecs.lzw_decode(encoded["LZW"]) == tile.tobytes()
    assert encoded["LERC"][:5] == b"Lerc2"
    assert (encoded["WEBP"][:4], encoded["WEBP"][8:12]) == (b"RIFF", b"WEBP")
    assert (encoded["JPEG"][:2], encoded["JPEG"][-2:]) == (b"\xff\xd8", b"\xff\xd9")


@pytest.mark.parametrize("compress", ["ZSTD", "DEFLATE"])
def test_more_effort_makes_it_no_larger(compress):
    tile = nf.SimpleFrames.demo(backend=None).load_region("coffee", np.s_[100:228, 200:328])
    sizes = []
    for level in (1, 9):
        codec = coerce_backend({"type": "cog", "config": {"compress": compress, "level": level}}).codec_for(
            tile.dtype, 3
        )
        assert_equal_bits(there_and_back(tile, codec), tile)
        sizes.append(len(encode_tile(tile, codec)))
    assert sizes[1] < sizes[0]


# -- damage -------------------------------------------------------------------------------------------------------

EVERY = [
    *((compress, dtype, False) for compress in FLAT for dtype in ("bool", "uint8", "complex64")),
    *((compress, dtype, True) for compress in FLAT[1:] for dtype in ("uint16", "float32")),
    ("LERC", "int16", False),
    ("JPEG", "uint8", False),
    ("WEBP", "uint8", False),
]


@pytest.mark.parametrize(("compress", "dtype", "differences"), EVERY)
@pytest.mark.parametrize("examples", [60, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_damaged_bytes_give_an_error_or_a_tile(compress, dtype, differences, examples):
    """Cut, lengthened, with bits turned over, or no tile at all: nothing of another shape, no other error, no crash."""
    tile = picture((20, 24, 3), dtype)
    codec = codec_of(compress, dtype, 3, differences=differences)
    good, rng, refused = encode_tile(tile, codec), np.random.default_rng(0), 0
    coding = compress, codec.predictor, tile.shape, tile.dtype
    decode, decode_several = find_decoder(*coding), find_several_decoder(*coding)
    for number in range(examples):
        data = bytearray(good)
        if number % 4 == 0:
            data = data[: int(rng.integers(len(data)))]
        elif number % 4 == 1:
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        elif number % 4 == 2:
            start = int(rng.integers(len(data)))
            data[start : start + 8] = rng.bytes(8)
        else:
            data = bytearray(rng.bytes(int(rng.integers(2 * len(data)))))
        with among_threads(are_others=number % 2 == 1):
            try:
                pixels = decode(bytes(data))
            except DECODE_ERRORS:
                refused += 1
                with pytest.raises(DECODE_ERRORS):
                    decode_several([good, memoryview(data), good])
            else:
                assert (pixels.shape, pixels.dtype) == (tile.shape, tile.dtype)
                some = decode_several([good, memoryview(data), good])
                assert_equal_bits(some[0], some[2])
                assert_equal_bits(some[1], pixels)
    assert refused > examples / 8
    assert_equal_bits(decode(good), there_and_back(tile, codec))


@pytest.mark.parametrize(("compress", "dtype", "differences"), EVERY)
def test_a_tile_of_another_shape_is_refused(compress, dtype, differences):
    codec = codec_of(compress, dtype, 3, differences=differences)
    for other in ((20, 23, 3), (19, 24, 3), (21, 24, 3)):
        data = encode_tile(picture(other, dtype), codec)
        if dtype == "bool" and other == (20, 23, 3):
            continue  # of as many bytes
        if compress == "LZW" and other == (21, 24, 3):
            continue  # the decoder goes on without an error
        with pytest.raises(DECODE_ERRORS):
            find_decoder(compress, codec.predictor, (20, 24, 3), np.dtype(dtype))(data)


# -- threads ------------------------------------------------------------------------------------------------------


def test_a_decoder_serves_any_number_of_threads():
    tiles = [picture((48, 48, 3), "uint16", seed=seed) for seed in range(8)]
    cases = []
    for compress in (*FLAT[1:], "LERC"):
        codec = codec_of(compress, "uint16", 3)
        decode = find_decoder(compress, codec.predictor, (48, 48, 3), np.dtype("uint16"))
        cases.append((codec, decode, [encode_tile(tile, codec) for tile in tiles]))
    outcomes = []

    def work(seed):
        try:
            for number in range(60):
                codec, decode, encoded = cases[(seed + number) % len(cases)]
                place = (seed * number) % len(tiles)
                assert_equal_bits(decode(encoded[place]), tiles[place])
                assert encode_tile(tiles[place], codec) == encoded[place]
            outcomes.append("right")
        except BaseException as error:
            outcomes.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == ["right"] * 8


@given(st.binary(max_size=2000))
def test_the_quick_checksum_is_the_other_one(data):
    assert checksum(data) == segments.checksum(data)
    assert checksum(memoryview(data)) == segments.checksum(data)
