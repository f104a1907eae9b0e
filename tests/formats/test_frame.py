"""FrameReader: one frame of a video is read as an image."""

from __future__ import annotations

import numpy as np
import pytest
from kit.synthetic import picture

from ndframes.errors import UnreadableImageError
from ndframes.formats.frame import FrameReader
from ndframes.formats.images.arrays import ArrayReader
from ndframes.formats.reader import Reader, ReaderFacts

FRAMES = picture((5 * 20, 30, 3)).reshape(5, 20, 30, 3)
VIDEO = ArrayReader("walk.mp4", FRAMES, format="array", has_frames=True)


class Blocks(Reader):
    """A video in blocks of 2 x 8 x 8 pixels, of which nothing is read."""

    def __init__(self):
        facts = ReaderFacts(
            format="blocks",
            shape=(20, 30, 3),
            dtype=np.dtype(np.uint8),
            tile_shape=(8, 8),
            frame_count=5,
            tile_frames=2,
        )
        super().__init__("blocks", facts)


def test_a_frame_is_an_image():
    frame = FrameReader(VIDEO, 3)
    assert (frame.shape, frame.dtype, frame.frame_count) == ((20, 30, 3), np.uint8, None)
    assert (frame.format, frame.path, frame.nbytes, frame.overview_shapes) == ("array", "walk.mp4", 20 * 30 * 3, ())
    np.testing.assert_array_equal(frame.read_all(), FRAMES[3])
    for rows, cols, bands in (
        (range(3, 9), range(30), [2, 0]),
        (range(19, -1, -3), range(1, 30, 4), range(3)),
        (range(4, 5), range(29, 7, -1), [1]),
    ):
        out = np.empty((len(rows), len(cols), len(bands)), np.uint8)
        frame.read(rows, cols, bands, out)
        np.testing.assert_array_equal(out, FRAMES[3][np.ix_(rows, cols, bands)])


@pytest.mark.parametrize("number", [-1, 5, 100])
def test_a_frame_that_is_not_there(number):
    with pytest.raises(UnreadableImageError, match="walk.mp4 has 5 frames, counted from 0"):
        FrameReader(VIDEO, number)
    with pytest.raises(UnreadableImageError, match="link.mp4 has 5 frames"):
        FrameReader(VIDEO, number, path="link.mp4")


def test_blocks_are_counted_by_frames():
    video = Blocks()
    assert video.count_decoded_of([0, 1, 3, 3], range(5, 20), range(9)) == 2 * 3 * 2
    assert video.count_decoded_of([4, 0], range(0), range(9)) == 0
    assert FrameReader(video, 4).count_decoded(range(20), range(30)) == 3 * 4


def test_images_have_no_frames_and_videos_are_no_images():
    out = np.empty((1, 20, 30, 3), np.uint8)
    with pytest.raises(NotImplementedError, match="opened as an image, not as a video"):
        FrameReader(VIDEO, 0).read_frames([0], range(20), range(30), range(3), out)
    with pytest.raises(NotImplementedError, match="opened as a video, not as an image"):
        Blocks().read_all()
