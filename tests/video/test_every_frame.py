"""Every frame of generated videos, read in several orders, against decoding from the beginning."""

from __future__ import annotations

import itertools

import pytest
from kit.every_frame import Comparison, compare, decode_in_order
from kit.videos import CannotMakeError, Recipe, draw_recipes, read_number

import ndframes as nf

#: The recipes of :data:`MATRIX` that are not read exactly yet.
NOT_YET: frozenset[str] = frozenset()


def short(*kind: object, **options: object) -> Recipe:
    """A recipe of three groups of frames in most cases, since most tests take as long as their frames."""
    return Recipe(*kind, **{"count": 26, **options})


MATRIX = [
    # Intact files.
    short("mp4", "h264", 2),
    short("fragmented", "hevc", 3),
    short("mkv", "h264", 3, style="open"),
    short("mov", "prores", gop=1),
    short("webm", "vp9", gop=30),
    short("avi", "h264", 2),
    short("avi", "msmpeg4v2"),
    short("ts", "h264", style="refresh", gop=30),
    short("m2ts", "mpeg2", 2, style="interlaced"),
    short("mpg", "mpeg2", 2),
    short("vob", "mpeg1", 2, gop=4),
    short("mpg", "mpeg2", gop=1),
    short("flv", "flv1"),
    short("wmv", "wmv2"),
    short("ogv", "vp8"),
    short("obu", "av1"),
    short("raw-hevc", "hevc", 2, style="open"),
    short("raw-m4v", "mpeg4", 2),
    short("raw-mpeg1", "mpeg1", 2),
    short("nut", "h264", 2),
    short("3gp", "h263"),
    # Times.
    *(short(container, "h264", 2, damage="times-of-decoding") for container in ("mp4", "mkv", "ts", "flv")),
    short("mpg", "mpeg2", 2, damage="times-of-decoding"),
    *(short(container, "h264", 2, damage="one-time-twice") for container in ("mp4", "mkv", "ts")),
    short("mkv", "vp9", damage="one-time-twice"),
    short("ts", "h264", 2, damage="equal-times"),
    short("mkv", "h264", damage="equal-times"),
    short("ts", "h264", 2, damage="no-times"),
    short("mpg", "mpeg1", 2, damage="no-times"),
    short("mkv", "h264", 2, damage="negative-times"),
    short("mp4", "hevc", 2, damage="negative-times"),
    short("mkv", "h264", 2, damage="fast"),
    short("webm", "vp8", damage="fast"),
    *(short(container, "mpeg2", 2, damage="clock-set-back") for container in ("ts", "mpg")),
    # Joined files.
    short("ts", "h264", 2, damage="joined"),
    short("mpg", "mpeg1", 2, damage="joined"),
    short("mkv", "h264", 2, damage="joined", count=40),
    short("fragmented", "h264", 2, damage="joined"),
    short("raw-h264", "h264", 2, damage="joined"),
    short("ts", "h264", 2, gop=4, damage="interleaved"),
    short("mpg", "mpeg2", 2, gop=4, damage="interleaved"),
    short("ts", "h264", style="refresh", damage="joined-inside"),
    short("mpg", "mpeg2", 2, damage="joined-inside"),
    short("raw-h264", "h264", 2, damage="depth-changes"),
    short("mkv", "h264", 2, damage="size-changes"),
    # Key flags and indexes.
    short("mp4", "mpeg4", damage="no-sync-table"),
    short("mp4", "h264", 2, damage="shifted-sync-table"),
    short("avi", "msmpeg4v2", damage="all-keys"),
    short("avi", "mpeg4", 2, damage="no-avi-index"),
    short("avi", "mpeg4", 2, damage="packed"),
    short("mp4", "h264", 2, damage="edited"),
    short("mp4", "h264", 2, damage="reordered-edits"),
    # Found by the slow run: what a decoder puts out depends on what it has decoded; clocks that wrap; entries dropped.
    short("mp4", "mpeg4", 2, gop=4, style="interlaced", damage="one-time-twice", count=40),
    short("mov", "mpeg4", 3, gop=4, damage="shifted-sync-table", count=40),
    short("3gp", "mpeg4", 3, style="interlaced", damage="edited", count=40),
    short("flv", "h264", 3, gop=4, damage="negative-times", count=40),
    short("raw-mpeg2", "mpeg2", 3, damage="size-changes", count=40),
    short("mp4", "h264", 3, damage="fields", count=40),
    # Files that begin inside a group of frames: these decoders show what is before the first key frame.
    short("mp4", "mpeg4", 2, damage="begins-inside"),
    short("mkv", "msmpeg4v3", damage="begins-inside"),
    short("avi", "wmv2", damage="begins-inside"),
    short("flv", "flv1", damage="begins-inside"),
    short("mov", "h263", damage="begins-inside"),
    # These do not.
    short("mp4", "h264", 2, damage="begins-inside"),
    short("webm", "vp9", damage="begins-inside"),
    # Packets that are no frame, or half of one.
    *(short("ivf", codec, damage="hidden") for codec in ("vp8", "vp9", "av1")),
    short("webm", "vp8", damage="hidden"),
    *(short(container, "h264", 2, damage="fields") for container in ("ts", "mkv", "raw-h264")),
    short("ts", "h264", 2, damage="pairs-of-fields"),
    # Truncated files.
    short("ts", "h264", 2, damage="no-start"),
    short("mpg", "mpeg2", 2, damage="no-start"),
    short("mp4", "h264", 2, damage="no-end"),
    short("avi", "mpeg4", 2, damage="no-end"),
    # The file ends within a packet: FFmpeg reports an error, or gives the rest of the packet, which holds no frame.
    short("obu", "av1", damage="no-end"),
    short("obu", "av1", gop=1, damage="no-end", share=0.562),
    # FFmpeg's parser calls packets before the last one cut, too; B-frames before a damaged frame are not.
    short("mpg", "mpeg1", 2, gop=4, damage="no-end", share=0.338),
    short("mpg", "mpeg2", 2, gop=4, damage="no-end", share=0.435),
    short("mp4", "mpeg1", 2, gop=4, damage="no-end", share=0.806, count=40),
    # Which B-frames a decoder of MPEG-4 puts out depends on the first one that it meets.
    short("3gp", "mpeg4", 2, gop=4, style="interlaced"),
    # A decoder that has reported damage shows nothing for a later packet.
    short("raw-mpeg2", "mpeg2", 2, gop=4, damage="joined-inside", share=0.21, count=40),
]
FORMS = (None, "npy", "cog", "intra")
#: The recipes whose cached forms and other processes are tried, too: one of each way to reach a frame.
IN_ALL_FORMS = {"mp4-h264-b2-g12.mp4", "mpg-mpeg2-b2-g12.mpg", "joined-mkv-h264-b2-g12.mkv"}


def mark(recipe: Recipe) -> object:
    marks = [pytest.mark.xfail(strict=True, reason="issue 19")] if recipe.name in NOT_YET else []
    return pytest.param(recipe, id=recipe.name, marks=marks)


@pytest.mark.parametrize("recipe", [*map(mark, MATRIX)])
def test_every_frame_is_that_of_decoding_from_the_beginning(tmp_path, recipe):
    path = recipe.make(tmp_path)
    in_all = recipe.name in IN_ALL_FORMS
    stored = compare(path, orders=("random",), backends=FORMS if in_all else (None,), in_process=in_all)
    assert stored.is_exact, str(stored)
    # A file that has just been written is opened and indexed at each access.
    fresh = compare(path, orders=("batches",), is_old=False, accesses=8, workdir=tmp_path / "fresh")
    assert fresh.is_exact, str(fresh)


def test_the_matrix_has_each_way_of_damage():
    names = {recipe.name for recipe in MATRIX}
    assert len(names) == len(MATRIX)
    assert names >= NOT_YET
    drawn = {recipe.damage for recipe in itertools.islice(draw_recipes(), 2000)}
    assert {recipe.damage for recipe in MATRIX} == drawn
    assert names >= IN_ALL_FORMS


@pytest.mark.parametrize(
    ("recipe", "shown"),
    [
        (Recipe("mp4", "h264", 2), list(range(40))),
        (Recipe("ts", "h264", 2, damage="fields"), list(range(40))),
        (Recipe("avi", "mpeg4", 2, damage="packed"), list(range(40))),
        (Recipe("mp4", "h264", 2, damage="edited"), list(range(21, 40))),
        (Recipe("mp4", "h264", 2, damage="reordered-edits"), [*range(22, 40), *range(18)]),
        (Recipe("mkv", "vp8", damage="hidden"), [number for number in range(40) if number % 6 != 4]),
        (Recipe("ts", "mpeg2", 2, damage="clock-set-back"), list(range(80))),
    ],
    ids=lambda value: value.name if isinstance(value, Recipe) else "",
)
def test_the_generator_makes_what_it_says(tmp_path, recipe, shown):
    assert [read_number(frame.pixels) for frame in decode_in_order(recipe.make(tmp_path))] == shown


def test_a_comparison_finds_what_is_wrong(tmp_path, monkeypatch):
    path = Recipe("mp4", "h264", 2).make(tmp_path)
    exact = nf.LazyVideo.__getitem__

    def wrong(self, key):
        if key == 7:
            raise KeyError("foreign")
        return exact(self, 5 if key == 6 else key)

    monkeypatch.setattr(nf.LazyVideo, "__getitem__", wrong)
    found = compare(path, orders=("random",), accesses=None)
    assert (found.expected, found.found, found.missing, found.accesses) == (40, 40, 0, 40)
    assert [(fault.asked, fault.shown) for fault in found.wrong] == [(6, 5)]
    assert [(fault.asked, fault.text[:7]) for fault in found.errors] == [(7, "foreign")]
    assert not found.is_exact
    assert "1 wrong" in str(found)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_five_hundred_generated_files(tmp_path, capsys):
    """Print how many of 500 files are read exactly; 5 orders of 40 frames are 200 accesses for most."""
    found: list[Comparison] = []
    for number, recipe in enumerate(draw_recipes(seed=19)):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            path = recipe.make(folder)
        except CannotMakeError:
            continue
        found.append(compare(path, in_process=True, accesses=40, seed=number, is_old=number % 2 == 0))
        if len(found) == 500:
            break
    inexact = [comparison for comparison in found if not comparison.is_exact]
    with capsys.disabled():
        print()
        for comparison in inexact:
            print(comparison)
        accesses = sum(comparison.accesses for comparison in found)
        wrong = sum(len(comparison.wrong) for comparison in found)
        errors = sum(len(comparison.errors) for comparison in found)
        print(
            f"{len(found)} files, {accesses:,} accesses: {wrong:,} wrong, {errors:,} errors, {len(inexact)} files inexact"
        )
    assert not inexact
