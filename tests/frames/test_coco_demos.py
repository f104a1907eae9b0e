"""CocoFrames on kwcoco's demo datasets: against kwcoco's own reading and against a closed formula."""

from __future__ import annotations

import numpy as np
import pytest
from kit.coco_bundles import by_kwcoco, differ, find_slack, interpolate, is_clear, quiet, read_stored

import ndframes as nf

DEMOS = ("vidshapes2-multispectral", "vidshapes2-aux", "vidshapes3-multisensor-msi", "vidshapes2-frames4", "shapes4")
# OpenCV 5 warps other numbers of bands with coordinates rounded to 1/32 of a pixel.
_EXACT_BAND_COUNTS = (1, 3, 4)
# kwcoco takes up to half a second per image, and the images of a demo are alike.
_COMPARED_IMAGES = 3


@pytest.fixture(scope="module")
def demo_of(tmp_path_factory):
    """Make kwcoco's demo datasets in a temporary folder."""
    made = {}

    def make(key):
        if key not in made:
            with quiet():
                import kwcoco

                made[key] = kwcoco.CocoDataset.demo(key, verbose=0)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("demos")))
        yield make


@pytest.mark.parametrize("space", ["image", "video"])
@pytest.mark.parametrize("key", DEMOS)
def test_every_channel_equals_kwcocos(demo_of, key, space):
    """To one level, in 16 bits rarely to two, since OpenCV's coordinates have 24 bits. The formula shows which is right."""
    dset = demo_of(key)
    frames = nf.CocoFrames(dset, space=space, backend=None)
    assert list(frames.image_ids) == list(dset.images())
    for image_id in frames.image_ids[:_COMPARED_IMAGES]:
        info = frames.pathinfo(image_id)
        for file in info.channels:
            stored = read_stored(file.path)
            assert stored.shape == (*file.shape, len(file.channels))
            for band, code in enumerate(file.channels):
                got = frames.load_region(image_id, None, code)
                wanted = by_kwcoco(
                    dset, image_id, code, space=space, optimize=len(file.channels) not in _EXACT_BAND_COUNTS
                )
                assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
                assert got.shape[:2] == info.shape
                if file.is_aligned:
                    np.testing.assert_array_equal(got[:, :, 0], stored[:, :, band])
                    np.testing.assert_array_equal(got, wanted)
                    continue
                clear = is_clear(file.matrix, info.shape, file.shape)
                assert clear.mean() > 0.5
                exact = interpolate(stored[:, :, band], file.matrix, info.shape)
                assert differ(got[:, :, 0], exact)[clear].max() <= find_slack(stored.dtype)
                steps = differ(got, wanted)[clear]
                assert steps.max() <= (1 if got.dtype == np.uint8 else 2)
                assert (steps > 1).mean() < 1e-4


@pytest.mark.parametrize("key", DEMOS)
def test_every_file_in_its_own_space(demo_of, key):
    dset = demo_of(key)
    frames = nf.CocoFrames(dset, space="asset", backend=None)
    for image_id in frames.image_ids:
        for file in frames.pathinfo(image_id).channels:
            stored = read_stored(file.path)
            np.testing.assert_array_equal(frames.load_region(image_id, None, list(file.channels)), stored)
            np.testing.assert_array_equal(
                frames.load_region(image_id, np.s_[-7:2:-2, 3:9], file.channels[::-1]), stored[-7:2:-2, 3:9, ::-1]
            )


@pytest.mark.parametrize("key", DEMOS[:-1])
def test_a_demo_video_is_its_images(demo_of, key):
    dset = demo_of(key)
    frames = nf.CocoFrames(dset, backend=None)
    in_video = nf.CocoFrames(dset, space="video", backend=None)
    for video_id in frames.video_ids:
        video = dset.index.videos[video_id]
        image_ids = list(dset.index.vidid_to_gids[video_id])
        codes = frames.image(("video", video_id)).channels
        had = [in_video.image(image_id).channels for image_id in image_ids]
        assert set(codes) == {code for some in had for code in some}
        crop = np.s_[100:180, 77:230]
        for code in codes[:4]:
            got = frames.load_region(("video", video_id), (slice(None), *crop), code, nodata="nan")
            assert got.shape == (len(image_ids), 80, 153, 1)
            np.testing.assert_array_equal(
                frames.load_region(video["name"], (slice(None), *crop), code, nodata="nan"), got
            )
            for time, image_id in enumerate(image_ids):
                if code in had[time]:
                    np.testing.assert_array_equal(
                        got[time], in_video.load_region(image_id, crop, code, nodata="nan").astype(got.dtype)
                    )
                else:
                    assert np.isnan(got[time]).all()


def test_channels_missing_in_some_frames(demo_of):
    dset = demo_of("vidshapes3-multisensor-msi")
    frames = nf.CocoFrames(dset, backend=None)
    in_video = nf.CocoFrames(dset, space="video", backend=None)
    found = 0
    for video_id in frames.video_ids:
        item, image_ids = ("video", video_id), list(dset.index.vidid_to_gids[video_id])
        for code in frames.image(item).channels:
            has = [code in in_video.image(image_id).channels for image_id in image_ids]
            if all(has):
                continue
            found += 1
            region = np.s_[:, 200:240, 300:330]
            with pytest.raises(nf.ChannelError, match=f"image {image_ids[has.index(False)]}: no channel"):
                frames.load_region(item, region, code)
            masked = frames.load_region(item, region, code, nodata="mask", fill=7)
            for time, image_id in enumerate(image_ids):
                if has[time]:
                    alone = in_video.load_region(image_id, region[1:], code, nodata="mask", fill=7)
                    np.testing.assert_array_equal(masked.mask[time], alone.mask)
                    np.testing.assert_array_equal(masked.data[time], alone.data)
                else:
                    assert masked.mask[time].all()
                    assert (masked.data[time] == 7).all()
            one = has.index(True)
            assert frames.load_region(item, (one, *region[1:]), code).dtype == in_video.image(image_ids[one]).dtype(
                code
            )
    assert found > 3
