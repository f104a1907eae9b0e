"""StoreAddress: where an object store is, parsed from an URL."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from ...errors import StoreError
from ...text import hide_secrets

__all__ = ["StoreAddress", "hint_at_slash", "is_url", "parse_address"]
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# The names under which other programs know these stores.
_STORES = {
    "s3": "s3",
    "s3a": "s3",
    "az": "az",
    "azure": "az",
    "adl": "az",
    "abfs": "az",
    "abfss": "az",
    "gs": "gs",
    "gcs": "gs",
    "http": "http",
    "https": "https",
    "memory": "memory",
}
_ONE_SLASH = re.compile(rf"(?:^|[/\\])(?:{'|'.join(_STORES)}):[/\\](?![/\\])", re.IGNORECASE)
_ALLOWED = "s3://bucket/prefix, az://container/prefix, gs://bucket/prefix, http://host/prefix or https://host/prefix"
_NO_SEGMENTS = ("", ".", "..")


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where an object store is.

    Attributes:
        scheme: ``"s3"``, ``"az"``, ``"gs"``, ``"http"``, ``"https"``, or ``"memory"``.
        bucket: the bucket or container; for HTTP the host, with its port if it has one.
        prefix: of all keys, without slashes around it; may be empty.
        account: of Azure, if the URL names it.

    Example:
        >>> address = parse_address("s3://imagery/cache/")
        >>> address.bucket, address.prefix, address.url
        ('imagery', 'cache', 's3://imagery/cache')
        >>> address.full_key("v1/a.json")
        'cache/v1/a.json'
    """

    scheme: str
    bucket: str
    prefix: str
    account: str | None = None

    @property
    def url(self) -> str:
        """The address as an URL; it contains no secret."""
        bucket = f"{self.bucket}@{self.account}.dfs.core.windows.net" if self.account else self.bucket
        scheme = "abfss" if self.account else self.scheme
        prefix = quote(self.prefix, safe="/!$&'()*+,;=:@~") if self.is_http else self.prefix
        return f"{scheme}://{bucket}/{prefix}" if prefix else f"{scheme}://{bucket}"

    @property
    def is_http(self) -> bool:
        """Whether it is a server of plain files."""
        return self.scheme in ("http", "https")

    def full_key(self, key: str) -> str:
        """The key in the bucket of a key below the prefix.

        Raises:
            StoreError: the key is empty, or has an empty segment, ``"."`` or ``".."``, which could lead out of the prefix.
        """
        if any(segment in _NO_SEGMENTS for segment in key.split("/")):
            raise StoreError(
                f"{self.url}: the key {key!r} is not valid: it is empty, or has an empty segment, '.' or '..'; give a plain path"
            )
        return f"{self.prefix}/{key}" if self.prefix else key

    def relative_key(self, full_key: str) -> str:
        """The key below the prefix of a key in the bucket."""
        return full_key[len(self.prefix) + 1 :] if self.prefix else full_key

    def join(self, key: str) -> StoreAddress:
        """The address of what is below this one."""
        return StoreAddress(self.scheme, self.bucket, self.full_key(key.strip("/")), self.account)


def is_url(text: object) -> bool:
    r"""Whether a path is an URL, and not a file on this machine.

    Example:
        >>> is_url("s3://bucket/a.tif"), is_url("/data/a.tif"), is_url("C:\\data")
        (True, False, False)
    """
    return isinstance(text, str) and _SCHEME.match(text) is not None


def hint_at_slash(path: str) -> str:
    """What to do about a path that was an URL before ``pathlib.Path`` removed one of its slashes; empty for other paths.

    Example:
        >>> hint_at_slash("s3:/bucket/cache")
        'an address has two slashes, and pathlib.Path removes one; give it as a text'
        >>> hint_at_slash("/data/cache")
        ''
    """
    if _ONE_SLASH.search(path) is None:
        return ""
    return "an address has two slashes, and pathlib.Path removes one; give it as a text"


def parse_address(url: str) -> StoreAddress:
    """Parse the URL of an object store.

    Args:
        url: ``s3://bucket/prefix``, ``az://container/prefix`` (also ``azure``, ``abfs``, and
            ``abfss://container@account.dfs.core.windows.net/prefix``), ``gs://bucket/prefix``, ``http(s)://host/prefix``, or
            ``memory://name``, a store in the memory of this process.

    Raises:
        StoreError: it is none of them, or contains credentials or a query.

    Example:
        >>> parse_address("abfss://tiles@acme.dfs.core.windows.net/v1").account
        'acme'
        >>> parse_address("ftp://host/a")
        Traceback (most recent call last):
        ndframes.errors.StoreError: 'ftp://host/a' is not the address of an object store; give s3://bucket/prefix, ...
    """
    shown = hide_secrets(url)
    if not is_url(url) or (scheme := _STORES.get(url.partition("://")[0].lower())) is None:
        raise StoreError(f"{shown!r} is not the address of an object store; give {_ALLOWED}")
    try:
        parts = urlsplit(url)
        _ = parts.port  # which raises an error for what is not a number
    except ValueError:  # its text may have a part of a password
        raise StoreError(f"the address {shown!r} is not valid: its host or port cannot be; give {_ALLOWED}") from None
    if scheme in ("http", "https"):
        _refuse_query(url, shown)
        path = unquote(parts.path)
    else:  # a key may contain any character, and "#", "?" and "%" are nothing special in it
        path = url.partition("://")[2].partition("/")[2]
    bucket, account = _split_bucket(scheme, url.partition("://")[2].partition("/")[0], shown)
    prefix = path.strip("/")
    if prefix and any(segment in _NO_SEGMENTS for segment in prefix.split("/")):
        raise StoreError(f"the prefix of {shown!r} has an empty segment, '.' or '..'; give a plain path")
    return StoreAddress(scheme, bucket, prefix, account)


def _refuse_query(url: str, shown: str) -> None:
    if "?" in url or "#" in url:
        raise StoreError(
            f"the address {shown!r} has a query or a fragment, which is not supported; give it without one"
        )


def _split_bucket(scheme: str, text: str, shown: str) -> tuple[str, str | None]:
    bucket, at, host = text.partition("@")
    if at and not (
        scheme == "az" and ":" not in text and host.endswith((".core.windows.net", ".fabric.microsoft.com"))
    ):
        raise StoreError(
            f"the address {shown!r} contains credentials; give it without them, and pass them in the environment or by credentials="
        )
    if not bucket or any(character.isspace() for character in text):
        raise StoreError(f"the address {shown!r} has no bucket or host; give {_ALLOWED}")
    return (bucket.lower() if scheme in ("http", "https") else bucket), (host.partition(".")[0] if at else None)
