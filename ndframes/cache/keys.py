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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..errors import HashidError, shorten
from ..spec.backends import SUFFIXES
from ..system.sources import is_writable, link_target, read_sidecar, real_path
from .contents import ContentHashes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..spec.backends import Backend
    from ..spec.pathinfo import ChannelInfo
    from ..system.stamp import SourceStamp

__all__ = ["FORMAT_VERSION", "EntryKey", "HashidMode", "Keyer", "backend_id_of", "digest_form"]
HashidMode = Literal["PATH", "PIXELS", "GIVEN", "DVC"]
#: Raised by hand whenever the same request would be written differently.
FORMAT_VERSION = 1
_MOST_SIDECAR_BYTES = 2**20
# Only what is listed under "outs:" speaks of the file itself; imports have other md5s above it.
_DVC_OUTS = re.compile(r"^outs:[ \t]*\n(?P<items>(?:[ \t-].*\n?|[ \t]*\n)*)", re.MULTILINE)
_DVC_MD5 = re.compile(r"^[ -]*md5:[ \t]*['\"]?([0-9a-f]{32}(?:\.dir)?)['\"]?[ \t]*$", re.MULTILINE)
_DVC_CACHE_PATH = re.compile(r"[/\\]([0-9a-f]{2})[/\\]([0-9a-f]{30})\Z")


@dataclass(frozen=True, slots=True)
class EntryKey:
    """The name of one cache entry.

    Attributes:
        backend_id: digest of the backend's options.
        source_id: digest of who the source is.
        state_id: digest of which version of it, in which form.
        suffix: ``.tif``, ``.npy`` or ``.avi``.

    Example:
        >>> EntryKey("b" * 12, "5" * 32, "7" * 32, ".tif").relative_path
        'v1/bbbbbbbbbbbb/55/55555555555555555555555555555555.77777777777777777777777777777777.tif'
    """

    backend_id: str
    source_id: str
    state_id: str
    suffix: str

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> EntryKey:
        """The key that these fields, as :meth:`Keyer.fields` gives them and an entry carries them, are digested to."""
        form = fields["backend"]
        return cls(
            backend_id=digest_form(form),
            source_id=_digest([fields["mode"], fields["identity"], fields["part"]], bytes_long=16),
            state_id=_digest([fields["format"], fields["state"], form], bytes_long=16),
            suffix=SUFFIXES[form["type"]],
        )

    @property
    def relative_path(self) -> str:
        """Where the entry lies under the cache's root."""
        name = f"{self.source_id}.{self.state_id}{self.suffix}"
        return f"v{FORMAT_VERSION}/{self.backend_id}/{self.source_id[:2]}/{name}"


def backend_id_of(backend: Backend) -> str:
    """The part of a key that says in which form the entry is."""
    return digest_form(backend.to_dict())


class Keyer:
    """Makes keys by one ``hashid_mode``.

    Modes:
        ``PATH``: resolved path, size and time of change. Fast; a moved file is a new source.
        ``PIXELS``: the file's bytes. Copies share one entry; each file is read once a process to know it.
        ``GIVEN``: ``ChannelInfo.hashid``, which the caller answers for.
        ``DVC``: the md5 in the ``.dvc`` file beside the source, or in the cache path that it links to. A file that could
            have been changed is held against its md5, once a process.
    """

    def __init__(self, mode: HashidMode) -> None:
        if mode not in get_args(HashidMode):
            raise HashidError(f"hashid_mode {shorten(mode)}; allowed: {', '.join(get_args(HashidMode))}")
        self.mode = mode
        self.contents = ContentHashes()

    def __reduce__(self) -> tuple[type[Keyer], tuple[HashidMode]]:
        return type(self), (self.mode,)  # what is known here would make every pickle of frames large

    def key(self, info: ChannelInfo, backend: Backend, stamp: SourceStamp | None) -> EntryKey:
        """The key of the entry for ``info`` in the form of ``backend``, while its file's state is ``stamp``.

        Raises:
            HashidError: this mode cannot key this source.
        """
        return EntryKey.from_fields(self.fields(info, backend, stamp))

    def fields(self, info: ChannelInfo, backend: Backend, stamp: SourceStamp | None) -> dict[str, Any]:
        """Everything that the key is a digest of, as plain data.

        Raises:
            HashidError: this mode cannot key this source.
        """
        identity, state = self._identify(info, stamp)
        return {
            "format": FORMAT_VERSION,
            "mode": self.mode,
            "identity": identity,
            "part": _part_of(info),
            "state": state,
            "backend": backend.to_dict(),
        }

    def lost_source_id(self, info: ChannelInfo) -> str | None:
        """The ``source_id`` of a file that is gone; ``None`` where only its content could tell."""
        if self.mode == "PIXELS":
            return None
        if self.mode == "PATH":
            identity = _path_identity(info.path)
        elif self.mode == "DVC":
            identity = _find_linked_md5(info.path) or _read_dvc_md5(info.path)
        else:
            identity = self._identify(info, None)[0]
        return _digest([self.mode, identity, _part_of(info)], bytes_long=16)

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
            return _path_identity(info.path), [stamp.size_bytes, stamp.mtime_ns]
        if self.mode == "PIXELS":
            return self.contents.digest(info.path, "blake2b", stamp), []
        return self._find_dvc_md5(info.path, stamp), []

    def _find_dvc_md5(self, path: str, stamp: SourceStamp) -> str:
        """The md5 that DVC knows the file by; its word is taken only for a file that DVC keeps read-only in its cache.

        A sidecar's time proves nothing: ``git pull`` writes a new one beside the old file.
        """
        linked = _find_linked_md5(path)
        if linked is not None and not is_writable(path):
            return linked
        md5 = linked or _read_dvc_md5(path)
        if self.contents.digest(path, "md5", stamp) != md5:
            raise HashidError(
                f"{path} is not the file that DVC knows by md5 {md5}; run 'dvc add {path}' if it was edited, 'dvc checkout' if not"
            )
        return md5


def _path_identity(path: str) -> str:
    return os.fsencode(real_path(path)).hex()


def _part_of(info: ChannelInfo) -> list[Any]:
    """Which of the images in the file; of a video also how it is decoded, where that was named."""
    part = [info.page, info.series, info.driver]
    is_named = info.pixel_format is not None or info.frame_errors != "raise"
    return [*part, info.pixel_format, info.frame_errors] if is_named else part


def _find_linked_md5(path: str) -> str | None:
    """The md5 in the name of the file of DVC's cache to which ``path`` links."""
    found = _DVC_CACHE_PATH.search(link_target(path) or "")
    return found[1] + found[2] if found else None


def _read_dvc_md5(path: str) -> str:
    """The md5 of the one file that the sidecar of ``path`` describes."""
    sidecar = path + ".dvc"
    try:
        text = read_sidecar(sidecar, _MOST_SIDECAR_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise HashidError(
            f"{path} has no readable {os.path.basename(sidecar)} beside it and links to no DVC cache; "
            f"run 'dvc add', or choose another hashid_mode ({error})"
        ) from error
    outs = _DVC_OUTS.search(text)
    found = _DVC_MD5.findall(outs["items"]) if outs else []
    if len(found) != 1 or found[0].endswith(".dir"):
        raise HashidError(f"{sidecar} names no md5 of one single file under 'outs'; run 'dvc add {path}'")
    return str(found[0])


def digest_form(form: Mapping[str, Any]) -> str:
    """The part of a key that says in which form an entry is, of that form as plain data."""
    return _digest(form, bytes_long=6)


def _digest(value: Any, *, bytes_long: int) -> str:
    """blake2b over canonical JSON: types and lengths are part of it, so no two values run together."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode("ascii"), digest_size=bytes_long).hexdigest()
