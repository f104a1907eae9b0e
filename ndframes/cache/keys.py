"""Keys: the name of the entry for one state of one source in one form.

A name consists of two digests. ``source_id`` identifies the source: by its resolved path, or by its content.
``state_id`` identifies its version and the form: the source's size and time, and the backend's options. So an entry of a
changed source gets a new name, and the superseded one is found by the part that did not change.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..errors import HashidError, shorten
from ..spec.backends import SUFFIXES
from ..system.objects.access import SourceAccess
from ..system.objects.addresses import is_url
from ..system.sources import is_writable, link_target, read_sidecar, real_path
from .contents import ContentHashes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..spec.backends import Backend
    from ..spec.pathinfo import ChannelInfo
    from ..system.stamp import SourceStamp

__all__ = ["FORMAT_VERSION", "EntryKey", "HashidMode", "Keyer", "backend_id_of", "digest_form"]
HashidMode = Literal["PATH", "PIXELS", "GIVEN", "DVC"]
#: Increased by hand whenever the same source and backend would give another file.
FORMAT_VERSION = 1
_MOST_SIDECAR_BYTES = 2**20
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)
# Only the md5 under "outs:" is that of the file itself; sidecars of imports list others above it.
_DVC_OUTS = re.compile(r"^outs:[ \t]*\n(?P<items>(?:[ \t-].*\n?|[ \t]*\n)*)", re.MULTILINE)
_DVC_MD5 = re.compile(r"^[ -]*md5:[ \t]*['\"]?([0-9a-f]{32}(?:\.dir)?)['\"]?[ \t]*$", re.MULTILINE)
_DVC_CACHE_PATH = re.compile(r"[/\\]([0-9a-f]{2})[/\\]([0-9a-f]{30})\Z")


@dataclass(frozen=True, slots=True)
class EntryKey:
    """The name of one cache entry.

    Attributes:
        backend_id: digest of the backend's options.
        source_id: digest of the source's identity.
        state_id: digest of the source, its version and the form.
        suffix: ``.tif``, ``.npy`` or ``.avi``.
        fields: what the digests are of; ``None`` if the key was read from the name of a file.

    Example:
        >>> EntryKey("b" * 12, "5" * 32, "7" * 32, ".tif").relative_path
        'v1/bbbbbbbbbbbb/55/55555555555555555555555555555555.77777777777777777777777777777777.tif'
    """

    backend_id: str
    source_id: str
    state_id: str
    suffix: str
    fields: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> EntryKey:
        """The key of these fields, which :meth:`Keyer.fields` returns and each entry contains."""
        form, source = fields["backend"], [fields["mode"], fields["identity"], fields["part"]]
        return cls(
            backend_id=digest_form(form),
            source_id=_digest(source, bytes_long=16),
            # With the source and the form, because locks and temporary files are named by state_id alone: without them
            # all sources of one version, in PIXELS mode all sources, would wait for one lock.
            state_id=_digest([fields["format"], *source, fields["state"], form], bytes_long=16),
            suffix=SUFFIXES[form["type"]],
            fields=fields,
        )

    def is_of(self, fields: Mapping[str, Any]) -> bool:
        """Whether this is the key of these fields; raises what :meth:`from_fields` raises for malformed ones."""
        # Equal fields have equal digests, which take longer to compute than the fields to compare.
        return (self.fields is not None and fields == self.fields) or EntryKey.from_fields(fields) == self

    @property
    def relative_path(self) -> str:
        """The path of the entry below the cache's root."""
        name = f"{self.source_id}.{self.state_id}{self.suffix}"
        return f"v{FORMAT_VERSION}/{self.backend_id}/{self.source_id[:2]}/{name}"


def backend_id_of(backend: Backend) -> str:
    """The part of a key that identifies the form."""
    return digest_form(_form_of(backend))


@lru_cache
def _form_of(backend: Backend) -> dict[str, Any]:
    return backend.to_dict()


class Keyer:
    """Makes keys by one ``hashid_mode``.

    Args:
        mode: one of the modes.
        access: reads sources; ``None``: only files.

    Modes:
        ``PATH``: resolved path, size and modification time; of an object its address, size, time, ETag and version. Fast; a moved
            file is a new source.
        ``PIXELS``: the file's bytes. Copies share one entry; each process reads each file once to get its digest.
        ``GIVEN``: ``ChannelInfo.hashid``; the caller guarantees that it changes with the file.
        ``DVC``: the md5 in the ``.dvc`` file beside the source, or in the path of DVC's cache to which the source links.
            Each process compares each file that is writable with its md5 once.
    """

    def __init__(self, mode: HashidMode, access: SourceAccess | None = None) -> None:
        if mode not in get_args(HashidMode):
            raise HashidError(f"hashid_mode {shorten(mode)}; allowed: {', '.join(get_args(HashidMode))}")
        self.mode = mode
        self.access = access or SourceAccess()
        self.contents = ContentHashes(self.access)

    def __reduce__(self) -> tuple[type[Keyer], tuple[HashidMode, SourceAccess]]:
        return type(self), (
            self.mode,
            self.access,
        )  # without the digests, which would make every pickle of frames large

    def key(self, info: ChannelInfo, backend: Backend, stamp: SourceStamp | None) -> EntryKey:
        """The key of the entry for a channel.

        Args:
            info: the channel.
            backend: the form of the entry.
            stamp: the stamp of the channel's file; ``None`` for a source that is not a local file.

        Raises:
            HashidError: this mode cannot identify this source.
        """
        return EntryKey.from_fields(self.fields(info, backend, stamp))

    def fields(self, info: ChannelInfo, backend: Backend, stamp: SourceStamp | None) -> dict[str, Any]:
        """The fields of which the key is a digest, as plain data; arguments and errors as for :meth:`key`."""
        identity, state = self._identify(info, stamp)
        return {
            "format": FORMAT_VERSION,
            "mode": self.mode,
            "identity": identity,
            "part": _part_of(info),
            "state": state,
            "backend": _form_of(backend),
        }

    def lost_source_id(self, info: ChannelInfo) -> str | None:
        """The ``source_id`` of a file that does not exist any more; ``None`` if it depends on the content."""
        if self.mode == "PIXELS":
            return None
        if self.mode == "PATH":
            identity = _path_identity(info.path)
        elif self.mode == "DVC":
            _refuse_dvc(info.path)
            identity = _find_linked_md5(info.path) or _read_dvc_md5(info.path)
        else:
            identity = self._identify(info, None)[0]
        return _digest([self.mode, identity, _part_of(info)], bytes_long=16)

    def _identify(self, info: ChannelInfo, stamp: SourceStamp | None) -> tuple[str, list[int]]:
        """The source's identity and version."""
        if self.mode == "GIVEN":
            if not info.hashid:
                raise HashidError(f"{info.path} has no hashid; hashid_mode='GIVEN' needs ChannelInfo(hashid=...)")
            return info.hashid, []
        if stamp is None:
            raise HashidError(
                f"{info.path} is not a local file, so it cannot be keyed by {self.mode}; give ChannelInfo(hashid=...) with "
                "hashid_mode='GIVEN', or backend=None"
            )
        if self.mode == "PATH":
            # The number of an object stands for its ETag and version; that of a file changes when it is copied.
            number = [stamp.inode] if is_url(info.path) else []
            return _path_identity(info.path), [stamp.size_bytes, stamp.mtime_ns, *number]
        if self.mode == "PIXELS":
            return self.contents.digest(info.path, "blake2b", stamp), []
        _refuse_dvc(info.path)
        return self._find_dvc_md5(info.path, stamp), []

    def _find_dvc_md5(self, path: str, stamp: SourceStamp) -> str:
        """The md5 by which DVC knows the file.

        It is trusted only for a read-only file in DVC's cache; any other file is read and compared. The sidecar's time
        proves nothing: ``git pull`` writes a new sidecar beside the old file.
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


def _refuse_dvc(path: str) -> None:
    if is_url(path):
        raise HashidError(f"{path} is an address, and DVC keeps files; use hashid_mode='PATH', 'PIXELS' or 'GIVEN'")


def _path_identity(path: str) -> str:
    # A path may contain bytes that are not UTF-8, and JSON holds text only.
    return os.fsencode(real_path(path)).hex()


def _part_of(info: ChannelInfo) -> list[Any]:
    """Which image of the file is meant; for a video also how it is decoded, if that differs from the default."""
    part = [info.page, info.series, info.driver]
    is_named = info.pixel_format is not None or info.frame_errors != "raise"
    # Only if named, because a longer list would change the keys of all other entries.
    return [*part, info.pixel_format, info.frame_errors] if is_named else part


def _find_linked_md5(path: str) -> str | None:
    """The md5 in the path of DVC's cache to which ``path`` links; ``None`` if it does not link there."""
    found = _DVC_CACHE_PATH.search(link_target(path) or "")
    return found[1] + found[2] if found else None


def _read_dvc_md5(path: str) -> str:
    """The md5 in the sidecar of ``path``."""
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
    # DVC marks the md5 of a folder by .dir.
    if len(found) != 1 or found[0].endswith(".dir"):
        raise HashidError(f"{sidecar} does not list the md5 of exactly one file under 'outs'; run 'dvc add {path}'")
    return str(found[0])


def digest_form(form: Mapping[str, Any]) -> str:
    """The part of a key that identifies a form, from the form as plain data."""
    return _digest(form, bytes_long=6)


def _digest(value: Any, *, bytes_long: int) -> str:
    """blake2b of canonical JSON: it contains types and lengths, so different values never give the same text."""
    return hashlib.blake2b(_ENCODER.encode(value).encode("ascii"), digest_size=bytes_long).hexdigest()
