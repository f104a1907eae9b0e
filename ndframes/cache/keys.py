"""Keys: which entry belongs to which state of which source, in which form.

An entry's name is two digests. ``source_id`` says who: the resolved path, or the content. ``state_id`` says which
version of it in which form: the source's size and time, and the backend's options. So a changed source gets a new
name, and the superseded entry can be found by the part that did not change.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..errors import HashidError
from ..stamp import SourceStamp, source_error, stat_source

if TYPE_CHECKING:
    from ..backends import Backend
    from ..pathinfo import ChannelInfo

__all__ = ["EntryKey", "HashidMode", "Keyer"]

HashidMode = Literal["PATH", "PIXELS", "GIVEN", "DVC"]

#: Raised by hand whenever the same request would be written differently.
FORMAT_VERSION = 1

_READ_BYTES = 4 * 2**20
_MAX_KNOWN_HASHES = 65536
_DVC_MD5 = re.compile(r"^[\s-]*md5:\s*['\"]?([0-9a-f]{32}(?:\.dir)?)['\"]?\s*$", re.MULTILINE)
_DVC_SIZE = re.compile(r"^[\s-]*size:\s*(\d+)\s*$", re.MULTILINE)
_DVC_CACHE_PATH = re.compile(r"[/\\]([0-9a-f]{2})[/\\]([0-9a-f]{30})$")


@dataclass(frozen=True, slots=True)
class EntryKey:
    """The name of one cache entry.

    Attributes:
        backend_id: digest of the backend's options.
        source_id: digest of who the source is.
        state_id: digest of which version of it, in which form.
        suffix: ``.tif`` or ``.npy``.

    Example:
        >>> EntryKey("b" * 12, "5" * 32, "7" * 32, ".tif").relative_path
        'v1/bbbbbbbbbbbb/55/55555555555555555555555555555555.77777777777777777777777777777777.tif'
    """

    backend_id: str
    source_id: str
    state_id: str
    suffix: str

    @property
    def relative_path(self) -> str:
        """Where the entry lies under the cache's root."""
        name = f"{self.source_id}.{self.state_id}{self.suffix}"
        return f"v{FORMAT_VERSION}/{self.backend_id}/{self.source_id[:2]}/{name}"


class Keyer:
    """Makes keys by one ``hashid_mode``.

    Modes:
        ``PATH``: resolved path, size and time of change. Fast; a moved file is a new source.
        ``PIXELS``: the file's bytes. Copies share one entry; each file is read once a process to know it.
        ``GIVEN``: ``ChannelInfo.hashid``, which the caller answers for.
        ``DVC``: the md5 in the ``.dvc`` file beside the source, or in the cache path that it links to.
    """

    def __init__(self, mode: HashidMode) -> None:
        if mode not in get_args(HashidMode):
            raise HashidError(f"hashid_mode {mode!r}; allowed: {', '.join(get_args(HashidMode))}")
        self.mode = mode
        self._known: OrderedDict[tuple[str, str, SourceStamp], str] = OrderedDict()

    def key(self, info: ChannelInfo, backend: Backend, stamp: SourceStamp | None) -> EntryKey:
        """The key of the entry for ``info`` in the form of ``backend``, while its file's state is ``stamp``.

        Raises:
            HashidError: this mode cannot key this source.
        """
        identity, state = self._identify(info, stamp)
        part = [info.page, info.series, info.driver]
        form = backend.to_dict()
        return EntryKey(
            backend_id=_digest(form, bytes_long=6),
            source_id=_digest([self.mode, identity, part], bytes_long=16),
            state_id=_digest([FORMAT_VERSION, state, form], bytes_long=16),
            suffix=backend.suffix,
        )

    def _identify(self, info: ChannelInfo, stamp: SourceStamp | None) -> tuple[str, list[int]]:
        """Who the source is, and which version of it."""
        if self.mode == "GIVEN":
            if not info.hashid:
                raise HashidError(f"{info.path} has no hashid; hashid_mode='GIVEN' needs ChannelInfo(hashid=...)")
            return info.hashid, []
        if stamp is None:
            raise HashidError(
                f"{info.path} is no local file, so it cannot be keyed by {self.mode}; give ChannelInfo(hashid=...) with "
                "hashid_mode='GIVEN', or backend=None"
            )
        if self.mode == "PATH":
            return os.fsencode(os.path.realpath(info.path)).hex(), [stamp.size_bytes, stamp.mtime_ns]
        if self.mode == "PIXELS":
            return self._hash_file(info.path, "blake2b", stamp), []
        return self._find_dvc_md5(info.path, stamp), []

    def _hash_file(self, path: str, algorithm: str, stamp: SourceStamp) -> str:
        """Digest of the file's bytes, remembered as long as its stamp stays the same."""
        known = self._known.get((path, algorithm, stamp))
        if known is not None:
            return known
        digest = hashlib.new(algorithm, usedforsecurity=False)
        try:
            with open(path, "rb", buffering=0) as file:
                while data := file.read(_READ_BYTES):
                    digest.update(data)
        except OSError as error:
            raise source_error(path, error) from error
        if stat_source(path) == stamp:
            self._known[path, algorithm, stamp] = digest.hexdigest()
            if len(self._known) > _MAX_KNOWN_HASHES:
                self._known.popitem(last=False)
        return digest.hexdigest()

    def _find_dvc_md5(self, path: str, stamp: SourceStamp) -> str:
        if os.path.islink(path) and (match := _DVC_CACHE_PATH.search(os.path.realpath(path))):
            return match[1] + match[2]
        sidecar = path + ".dvc"
        try:
            with open(sidecar, encoding="utf-8") as file:
                text = file.read()
            sidecar_stamp = stat_source(sidecar)
        except (OSError, UnicodeDecodeError) as error:
            raise HashidError(
                f"{path} has no readable {os.path.basename(sidecar)} beside it and links to no DVC cache; "
                f"run 'dvc add', or choose another hashid_mode ({error})"
            ) from error
        match = _DVC_MD5.search(text)
        if match is None or match[1].endswith(".dir"):
            raise HashidError(f"{sidecar} names no md5 of a single file; run 'dvc add {path}'")
        self._check_dvc(path, stamp, match[1], _DVC_SIZE.search(text), sidecar_stamp)
        return match[1]

    def _check_dvc(
        self, path: str, stamp: SourceStamp, md5: str, size: re.Match[str] | None, sidecar_stamp: SourceStamp
    ) -> None:
        """Refuse a sidecar that speaks of another state of the file; hash only where times leave a doubt."""
        agrees = size is None or int(size[1]) == stamp.size_bytes
        if agrees and max(stamp.mtime_ns, stamp.ctime_ns) > sidecar_stamp.mtime_ns:
            agrees = self._hash_file(path, "md5", stamp) == md5
        if not agrees:
            raise HashidError(
                f"{path} was changed after its .dvc file was written; run 'dvc add {path}' or 'dvc checkout'"
            )


def _digest(value: Any, *, bytes_long: int) -> str:
    """blake2b over canonical JSON: types and lengths are part of it, so no two values run together."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode("ascii"), digest_size=bytes_long).hexdigest()
