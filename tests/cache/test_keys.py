"""Keys: no two sources share one by accident, no change goes unseen, and equal content meets where it was asked to."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kit.waiting import within

import ndframes as nf
from ndframes.cache.contents import ContentHashes
from ndframes.cache.keys import EntryKey, Keyer
from ndframes.errors import HashidError, SourceError
from ndframes.spec.backends import Backend, coerce_backend
from ndframes.spec.pathinfo import ChannelInfo
from ndframes.system.stamp import SourceStamp, stat_source

NPY = Backend(type="npy")
NAME = re.compile(r"v1/[0-9a-f]{12}/[0-9a-f]{2}/[0-9a-f]{32}\.[0-9a-f]{32}\.(tif|npy)")
BACKENDS = [
    coerce_backend(spec)
    for spec in (
        "npy",
        "cog",
        *({"type": "cog", "config": {"compress": name}} for name in ("NONE", "ZSTD", "DEFLATE", "LZW", "LERC", "JPEG", "WEBP")),
        {"type": "cog", "config": {"blocksize": 128}},
        {"type": "cog", "config": {"predictor": "YES"}},
        {"type": "cog", "config": {"predictor": 3}},
        {"type": "cog", "config": {"overviews": False}},
        {"type": "cog", "config": {"compress": "ZSTD", "level": 9}},
        {"type": "cog", "config": {"compress": "JPEG", "quality": 75}},
    )
]  # fmt: skip
PARTS = [
    {},
    {"page": 0},
    {"page": 1},
    {"series": 0},
    {"series": 1},
    {"page": 1, "series": 1},
    {"driver": "VRT"},
    {"driver": "ENVI"},
]


def key_of(path, mode="PATH", backend=NPY, **options) -> EntryKey:
    info = ChannelInfo(path, **options)
    return Keyer(mode).key(info, backend, stat_source(info.path))


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"some pixels")
    return path


def rewrite(path: Path, data: bytes) -> None:
    """Other bytes of the same length, and the clock set back, as an unlucky tool may leave it."""
    before = path.stat()
    assert len(data) == before.st_size
    time.sleep(0.02)
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def md5_of(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


# -- every mode ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["PATH", "PIXELS", "GIVEN", "DVC"])
def test_every_form_and_part_has_a_key_of_its_own(source, mode):
    Path(f"{source}.dvc").write_text(f"outs:\n- md5: {md5_of(source.read_bytes())}\n  path: a.tif\n")
    keys = {
        key_of(source, mode, backend, hashid="h", **part): (backend, tuple(part.items()))
        for backend in BACKENDS
        for part in PARTS
    }
    paths = {key.relative_path for key in keys}
    assert len(paths) == len(keys) == len(BACKENDS) * len(PARTS)
    assert all(NAME.fullmatch(path) for path in paths)
    assert {key.suffix for key, (backend, _) in keys.items() if backend.type == "npy"} == {".npy"}
    assert len({key.backend_id for key in keys}) == len(BACKENDS)
    assert len({key.source_id for key in keys}) == len(PARTS)
    assert key_of(source, mode, hashid="h") == key_of(source, mode, hashid="h")


def test_what_changes_no_pixel_of_the_entry_changes_no_key(source):
    plain = key_of(source)
    same = key_of(source, channels="r|g", nodata=0, shape=(3, 4), img_from_src=np.diag([2, 2, 1]), hashid="other")
    assert same == plain


def test_one_source_has_different_ids_by_different_modes(source):
    Path(f"{source}.dvc").write_text(f"outs:\n- md5: {md5_of(source.read_bytes())}\n")
    modes = ("PATH", "PIXELS", "GIVEN", "DVC")
    assert len({key_of(source, mode, hashid=md5_of(source.read_bytes())).source_id for mode in modes}) == 4


@pytest.mark.parametrize("mode", ["path", "", None, "MD5", 5, ["PATH"], "x" * 10**6], ids=lambda mode: repr(mode)[:10])
def test_an_unknown_mode_lists_the_known_ones(mode):
    with pytest.raises(HashidError, match="^hashid_mode .*; allowed: PATH, PIXELS, GIVEN, DVC$") as caught:
        Keyer(mode)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("mode", ["PATH", "PIXELS", "DVC"])
def test_a_source_that_is_not_local_needs_a_given_key(mode):
    info = ChannelInfo("/vsizip/a.zip/a.tif", driver="GTiff", hashid="h")
    with pytest.raises(HashidError, match=r"/vsizip/a\.zip/a\.tif is not a local file.*hashid_mode='GIVEN'"):
        Keyer(mode).key(info, NPY, None)
    assert NAME.fullmatch(Keyer("GIVEN").key(info, NPY, None).relative_path)


def test_a_key_is_a_value_and_a_keyer_pickles_small(source):
    keyer = Keyer("PIXELS")
    key = keyer.key(ChannelInfo(source), NPY, stat_source(str(source)))
    assert pickle.loads(pickle.dumps(key)) == key
    for number in range(300):
        other = source.with_name(f"{number}.tif")
        other.write_bytes(b"%d" % number)
        keyer.key(ChannelInfo(other), NPY, stat_source(str(other)))
    data = pickle.dumps(keyer)
    assert len(data) < 400
    assert pickle.loads(data).key(ChannelInfo(source), NPY, stat_source(str(source))) == key


# -- PATH ---------------------------------------------------------------------------------------------------------


def test_equal_names_in_different_folders_are_different_sources(tmp_path):
    ids = set()
    for folder in ("one", "two", "two/one"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "a.tif"
        path.write_bytes(b"same")
        os.utime(path, ns=(0, 10**18))
        ids.add(key_of(path).source_id)
    assert len(ids) == 3


def test_a_copy_is_another_source(source):
    copy = source.with_name("b.tif")
    copy.write_bytes(source.read_bytes())
    os.utime(copy, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))
    assert key_of(copy).source_id != key_of(source).source_id


@pytest.mark.parametrize("mode", ["PATH", "PIXELS"])
def test_sources_of_one_version_have_locks_of_their_own(source, mode):
    """Locks are named by the state: in one lock, processes would convert one source after the other."""
    other = source.with_name("b.tif")
    other.write_bytes(source.read_bytes()[::-1])
    os.utime(other, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))
    assert key_of(other, mode=mode).state_id != key_of(source, mode=mode).state_id


@pytest.mark.parametrize(("size", "mtime"), [(12, 0), (10, 0), (11, 1), (11, -1), (11, 10**9), (0, 0)])
def test_a_change_of_size_or_time_is_another_state_of_the_same_source(source, size, mtime):
    old, status = key_of(source), source.stat()
    source.write_bytes(b"x" * size)
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns + mtime))
    new = key_of(source)
    assert new.source_id == old.source_id
    assert new.state_id != old.state_id


def test_every_path_to_one_file_is_one_key(source, tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.tif").symlink_to(source)
    (tmp_path / "linked").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path / "folder")
    paths = [
        source,
        "../a.tif",
        "./../folder/../a.tif",
        tmp_path / "link.tif",
        tmp_path / "linked" / "linked" / "a.tif",
    ]
    assert len({key_of(path) for path in paths}) == 1


def test_a_link_with_another_target_is_another_source(source, tmp_path):
    other = tmp_path / "b.tif"
    other.write_bytes(source.read_bytes())
    link = tmp_path / "link.tif"
    link.symlink_to(source)
    before = key_of(link)
    link.unlink()
    link.symlink_to(other)
    assert key_of(link).source_id == key_of(other).source_id != before.source_id


name_bytes = st.binary(min_size=1, max_size=6).filter(
    lambda name: not set(b"/\0") & set(name) and name not in (b".", b"..")
)
tricky_names = st.sampled_from(
    [name.encode() for name in ("é", "e\u0301", "a\nb", "a b", "a", "A", "a.tif", "ａ", "'", '"', "\\", "\u202e", "🗻")]
    + [b"\xe9", b"\xff\xfe", b"\xed\xa0\x80", b"a\n", b"\n"]
)
a_stamp = SourceStamp(1, 2, 3, 4, 5)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.one_of(name_bytes, tricky_names), min_size=1, max_size=3),
    st.lists(st.one_of(name_bytes, tricky_names), min_size=1, max_size=3),
)
def test_weird_paths_have_keys_of_their_own(first, second):
    """Nothing is opened for a key by path: the stamp is given, and the folders need not exist."""
    assume(first != second)
    keys = [
        Keyer("PATH").key(ChannelInfo(os.fsdecode(b"/nowhere at all/" + b"/".join(names))), NPY, a_stamp)
        for names in (first, second)
    ]
    assert keys[0].source_id != keys[1].source_id
    assert all(NAME.fullmatch(key.relative_path) for key in keys)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.text(min_size=1, max_size=5), st.one_of(st.none(), st.integers(0, 9)), st.text(max_size=3)),
        unique=True,
        max_size=9,
    )
)
def test_given_ids_never_run_together(given_ids):
    """``"ab" + "c"`` is not ``"a" + "bc"``: the parts of a key keep their borders."""
    keys = [
        Keyer("GIVEN").key(ChannelInfo("a", hashid=hashid, page=page, driver=driver), NPY, None)
        for hashid, page, driver in given_ids
    ]
    assert len({key.source_id for key in keys}) == len(keys)
    assert all(NAME.fullmatch(key.relative_path) for key in keys)


def test_real_files_of_weird_names_have_different_keys(tmp_path):
    names = [os.fsencode("é"), os.fsencode("e\u0301"), b"\xff", b"a\nb", b"a b", b" ", b"-", b"'"]
    keys = set()
    for name in names:
        path = os.fsencode(tmp_path) + b"/" + name
        with open(path, "wb") as file:
            file.write(b"same")
        os.utime(path, ns=(0, 10**18))
        keys.add(key_of(os.fsdecode(path)).relative_path)
    assert len(keys) == len(names)
    assert all(NAME.fullmatch(key) for key in keys)


# -- PIXELS -------------------------------------------------------------------------------------------------------


def test_copies_share_one_key(source):
    copy = source.with_name("b.png")
    copy.write_bytes(source.read_bytes())
    assert key_of(copy, "PIXELS") == key_of(source, "PIXELS")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40), st.binary(max_size=40))
def test_keys_are_equal_exactly_where_bytes_are(tmp_path_factory, first, second):
    folder = tmp_path_factory.getbasetemp() / "keys_are_equal"
    folder.mkdir(exist_ok=True)
    for name, data in (("a", first), ("b", second)):
        (folder / name).write_bytes(data)
    assert (key_of(folder / "a", "PIXELS") == key_of(folder / "b", "PIXELS")) == (first == second)


def test_content_beyond_the_first_buffer_counts(tmp_path):
    data = bytearray(9 * 2**20)
    keys = set()
    for position in (None, 0, 4 * 2**20, 9 * 2**20 - 1):
        path = tmp_path / f"{position}.bin"
        path.write_bytes(data if position is None else data[:position] + b"\1" + data[position + 1 :])
        keys.add(key_of(path, "PIXELS"))
    assert len(keys) == 4


def test_a_touch_changes_no_key_and_an_edit_does(source):
    keyer = Keyer("PIXELS")

    def key():
        return keyer.key(ChannelInfo(source), NPY, stat_source(str(source)))

    first = key()
    os.utime(source, ns=(0, 10**18))
    assert key() == first
    source.write_bytes(b"other pixels, and more")
    assert key() != first
    source.write_bytes(b"some pixels")
    assert key() == first


def test_a_rewrite_of_equal_size_and_restored_time_is_noticed(source):
    keyer = Keyer("PIXELS")
    first = keyer.key(ChannelInfo(source), NPY, stat_source(str(source)))
    rewrite(source, b"SOME PIXELS")
    second = keyer.key(ChannelInfo(source), NPY, stat_source(str(source)))
    assert second != first
    assert second == key_of(source, "PIXELS")


@pytest.fixture
def settled(monkeypatch):
    """Stamps count as settled at once, so that tests need not wait."""
    monkeypatch.setattr("ndframes.system.stamp._LONGEST_TICK_NS", 0)


def test_a_file_that_changed_just_now_is_read_each_time(source):
    keyer = Keyer("PIXELS")
    stamp = stat_source(str(source))
    keyer.key(ChannelInfo(source), NPY, stamp)
    assert len(keyer.contents) == 0


def test_a_file_is_read_once_while_it_stays_the_same(source, monkeypatch, settled):
    keyer = Keyer("PIXELS")
    stamp = stat_source(str(source))
    first = keyer.key(ChannelInfo(source), NPY, stamp)
    monkeypatch.setattr("builtins.open", None)
    assert keyer.key(ChannelInfo(source), NPY, stamp) == first
    assert keyer.key(ChannelInfo(source), BACKENDS[1], stamp).source_id == first.source_id


def test_a_file_that_changes_while_it_is_hashed_is_hashed_again(source):
    keyer = Keyer("PIXELS")
    stale = stat_source(str(source))
    rewrite(source, b"SOME PIXELS")
    keyer.key(ChannelInfo(source), NPY, stale)  # as if the edit came between the stamp and the hash
    rewrite(source, b"Some Pixels")
    assert keyer.key(ChannelInfo(source), NPY, stat_source(str(source))) == key_of(source, "PIXELS")
    assert keyer.key(ChannelInfo(source), NPY, stale) == key_of(source, "PIXELS")


def test_the_memory_of_digests_is_bounded(source, settled):
    contents = ContentHashes(most_digests=3)
    for number in range(7):
        path = source.with_name(f"{number}.bin")
        path.write_bytes(b"%d" % number)
        contents.digest(str(path), "blake2b", stat_source(str(path)))
    assert len(contents) == 3


@pytest.mark.parametrize("mode", ["PIXELS", "DVC"])
def test_a_file_that_is_gone_meanwhile(source, mode):
    stamp = stat_source(str(source))
    Path(f"{source}.dvc").write_text(f"outs:\n- md5: {'0' * 32}\n")
    source.unlink()
    with pytest.raises(SourceError, match=r"a\.tif does not exist"):
        Keyer(mode).key(ChannelInfo(source), NPY, stamp)


# -- GIVEN --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hashid", [None, ""])
def test_given_needs_a_hashid(source, hashid):
    with pytest.raises(HashidError, match=r"a\.tif has no hashid; .*ChannelInfo\(hashid=\.\.\.\)"):
        key_of(source, "GIVEN", hashid=hashid)


def test_a_given_hashid_is_all_that_counts(source, tmp_path):
    other = tmp_path / "b.tif"
    other.write_bytes(b"x")
    assert key_of(source, "GIVEN", hashid="h") == key_of(other, "GIVEN", hashid="h")
    assert key_of(source, "GIVEN", hashid="h") != key_of(source, "GIVEN", hashid="H")
    assert NAME.fullmatch(key_of(source, "GIVEN", hashid="../../\udcff\n" * 1000).relative_path)


# -- DVC ----------------------------------------------------------------------------------------------------------


def sidecar_of(source: Path, text: str) -> Path:
    path = Path(f"{source}.dvc")
    path.write_text(text.format(md5=md5_of(source.read_bytes()), size=source.stat().st_size))
    return path


SIDECARS = {
    "dvc 2": "outs:\n- md5: {md5}\n  size: {size}\n  path: a.tif\n",
    "dvc 3": "outs:\n- md5: {md5}\n  size: {size}\n  hash: md5\n  path: a.tif\n",
    "other order": "outs:\n- path: a.tif\n  hash: md5\n  size: {size}\n  md5: {md5}\n",
    "indented": "outs:\n  - md5: {md5}\n    size: {size}\n    path: a.tif\nmeta:\n  author: nobody\n",
    "quoted": "outs:\n- md5: '{md5}'\n  path: a.tif\n",
    "double quoted, no size": 'outs:\n- md5: "{md5}"\n',
    "crlf": "outs:\r\n- md5: {md5}\r\n  size: {size}\r\n  path: a.tif\r\n",
    "import": (
        "md5: 11111111111111111111111111111111\nfrozen: true\ndeps:\n- path: data/a.tif\n"
        "  md5: 22222222222222222222222222222222\n  repo:\n    url: ../other\n    rev_lock: abcdef\n"
        "outs:\n- md5: {md5}\n  size: {size}\n  hash: md5\n  path: a.tif\n"
    ),
    "after a comment": "# a note, with md5: 33333333333333333333333333333333\n\nouts:\n\n- md5: {md5}\n  path: a.tif",
    "wdir first": "wdir: ..\nouts:\n- md5: {md5}\n  path: x/a.tif\ndesc: |\n  md5: none\n",
}  # fmt: skip


@pytest.mark.parametrize("text", SIDECARS.values(), ids=SIDECARS)
def test_a_sidecar_of_any_age_gives_the_md5_of_the_file(source, tmp_path, text):
    sidecar_of(source, text)
    twin = tmp_path / "twin.tif"
    twin.write_bytes(source.read_bytes())
    sidecar_of(twin, SIDECARS["dvc 3"])
    assert key_of(source, "DVC") == key_of(twin, "DVC")


def link_into_cache(folder: Path, layout: str, data: bytes, mode: int = 0o444) -> Path:
    md5 = md5_of(data)
    cached = folder / "dvc cache" / layout / md5[:2] / md5[2:]
    cached.parent.mkdir(parents=True, exist_ok=True)
    if not cached.exists():
        cached.write_bytes(data)
        cached.chmod(mode)
    link = folder / f"{layout.replace('/', '_')}.tif"
    link.symlink_to(cached)
    return link


@pytest.mark.parametrize("layout", ["cache", "files/md5"])
def test_a_link_into_dvc_s_cache_needs_no_sidecar_and_no_reading(tmp_path, monkeypatch, layout, source):
    sidecar_of(source, SIDECARS["dvc 3"])
    link = link_into_cache(tmp_path, layout, source.read_bytes())
    expected = key_of(source, "DVC")
    monkeypatch.setattr("builtins.open", None)
    assert key_of(link, "DVC") == expected


def test_a_link_by_way_of_another_link(tmp_path, source):
    sidecar_of(source, SIDECARS["dvc 3"])
    link = link_into_cache(tmp_path, "cache", source.read_bytes())
    (tmp_path / "second.tif").symlink_to(link)
    assert key_of(tmp_path / "second.tif", "DVC") == key_of(source, "DVC")


def test_an_edit_through_a_link_that_dvc_does_not_protect_is_noticed(tmp_path):
    link = link_into_cache(tmp_path, "files/md5", b"some pixels", mode=0o644)
    assert key_of(link, "DVC") == key_of(link, "DVC")
    rewrite(link, b"SOME PIXELS")
    with pytest.raises(HashidError, match="is not the file that DVC knows"):
        key_of(link, "DVC")


def test_a_link_to_anywhere_else_needs_its_sidecar(source, tmp_path):
    link = tmp_path / "link.tif"
    link.symlink_to(source)
    with pytest.raises(HashidError, match=r"no readable link\.tif\.dvc beside it"):
        key_of(link, "DVC")


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"some pixels and more"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"SOME PIXELS"),
        lambda path: rewrite(path, b"SOME PIXELS"),
    ],
    ids=["longer", "empty", "equal size", "equal size and time"],
)
def test_an_edit_after_dvc_add_is_refused(source, change):
    sidecar_of(source, SIDECARS["dvc 3"])
    keyer = Keyer("DVC")
    info = ChannelInfo(source)
    keyer.key(info, NPY, stat_source(str(source)))
    time.sleep(0.02)
    change(source)
    for other in (keyer, Keyer("DVC")):
        with pytest.raises(
            HashidError, match="is not the file that DVC knows by md5 [0-9a-f]{32}; run 'dvc add .*'dvc checkout'"
        ):
            other.key(info, NPY, stat_source(str(source)))


def test_a_sidecar_that_came_by_git_before_the_file_did_is_refused(source):
    """After ``git pull`` and before ``dvc pull``: new sidecar, old pixels, equal size, and times that say nothing."""
    os.utime(source, ns=(0, 10**18))
    Path(f"{source}.dvc").write_text(f"outs:\n- md5: {md5_of(b'SOME PIXELS')}\n  size: 11\n  path: a.tif\n")
    with pytest.raises(HashidError, match="is not the file that DVC knows"):
        key_of(source, "DVC")


def test_a_touched_or_restored_file_is_still_the_one_that_was_added(source):
    sidecar_of(source, SIDECARS["dvc 3"])
    first = key_of(source, "DVC")
    os.utime(source)
    assert key_of(source, "DVC") == first
    source.unlink()
    source.write_bytes(b"some pixels")
    assert key_of(source, "DVC") == first


@pytest.mark.parametrize(
    "text",
    [
        "", "outs:\n", "outs: []\n", "garbage", "md5: {md5}\n", "deps:\n- md5: {md5}\n", "outs:\n- path: a.tif\n",
        "outs:\n- md5: {md5}.dir\n  nfiles: 3\n", "outs:\n- md5: abc\n", "outs:\n- etag: {md5}\n",
        "outs:\n- md5: {md5}\n- md5: {md5}\n", "other:\n  outs:\n  - md5: {md5}\n", "outs:\nmd5: {md5}\n",
        "outs:\n- md5: {md5}0\n", "\0" * 1000,
    ],
    ids=lambda text: text[:30].replace("\n", " "),
)  # fmt: skip
def test_a_sidecar_without_the_md5_of_one_file_is_refused(source, text):
    sidecar_of(source, text)
    with pytest.raises(
        HashidError, match=r"a\.tif\.dvc does not list the md5 of exactly one file under 'outs'; run 'dvc add"
    ):
        key_of(source, "DVC")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: None,
        lambda path: path.mkdir(),
        os.mkfifo,
        lambda path: path.symlink_to(path),
        lambda path: path.write_bytes(b"\xff\xfe\xfa outs"),
    ],
    ids=["missing", "directory", "fifo", "loop", "bytes"],
)
def test_a_sidecar_that_cannot_be_read_is_refused_at_once(source, spoil):
    spoil(Path(f"{source}.dvc"))
    with (
        within(1),
        pytest.raises(HashidError, match=r"a\.tif has no readable a\.tif\.dvc beside it.*run 'dvc add'") as caught,
    ):
        key_of(source, "DVC")
    assert caught.value.__cause__ is not None


# -- through to the pixels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["PATH", "PIXELS"])
def test_an_edited_source_is_never_served_stale(tmp_path, mode):
    path = tmp_path / "a.npy"
    frames = nf.SimpleFrames({"a": path}, workdir=tmp_path / "work", backend="npy", hashid_mode=mode)
    for value in (1, 2, 3, 1):
        np.save(path, np.full((5, 6), value, np.uint8))
        time.sleep(0.02)
        assert (frames.load_region("a") == value).all()
    assert len(list(frames.cache.ls())) == (4 if mode == "PATH" else 3)


def test_copies_share_one_entry_by_pixels_only(tmp_path):
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", np.arange(30, dtype=np.uint8).reshape(5, 6))
    for mode, entries in (("PATH", 2), ("PIXELS", 1)):
        frames = nf.SimpleFrames(
            {name: tmp_path / f"{name}.npy" for name in "ab"}, workdir=tmp_path / mode, backend="cog", hashid_mode=mode
        )
        assert frames.load_region("a").tolist() == frames.load_region("b").tolist()
        assert len(list(frames.cache.ls())) == entries
