"""SourceRules: the addresses under which sources may be read."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ...errors import SourceAccessError, SourceError, StoreError, shorten
from ...text import hide_secrets
from .addresses import StoreAddress, is_url, parse_address

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

__all__ = ["SourceRules", "check_driver_path", "check_object_driver", "is_network_path", "to_object_address"]
#: The number of a host.
IPAddress: TypeAlias = "IPv4Address | IPv6Address"
_PORTS = {"http": ":80", "https": ":443"}
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# A host: a name of ASCII letters whose last part is no number, an IPv4 address of four numbers, or an IPv6 address.
_HOST = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?\.)*[a-z](?:[a-z0-9-]*[a-z0-9])?")
_NETLOC = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[^:\[\]@]+)(?::(?P<port>[0-9]{1,5}))?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# The file systems of GDAL that reach over a network.
_NETWORK_PATH = re.compile(r"/vsi(?:curl|s3|gs|az|adls|oss|swift|hdfs|webhdfs)(?:_streaming)?(?:[/?]|$)", re.IGNORECASE)
# GDAL's drivers of formats that keep everything in one file.
_STANDING_ALONE = frozenset(
    [
        "AAIGrid",
        "BMP",
        "COG",
        "DTED",
        "EXR",
        "GIF",
        "GRIB",
        "GTiff",
        "JP2OpenJPEG",
        "JPEG",
        "JPEGXL",
        "PNG",
        "WEBP",
        "XYZ",
    ]
)
_LOCALHOST = "localhost"
# Blocks of IPv6 whose last 32 bits are an IPv4 address that the network translates to.
_TRANSLATED = tuple(ipaddress.IPv6Network(block) for block in ("64:ff9b::/96", "64:ff9b:1::/48", "::/96"))
_PUBLIC_TRANSLATED = _TRANSLATED[0]


@dataclass(frozen=True)
class SourceRules:
    """The addresses under which sources may be read; all others are refused before anything is sent.

    Attributes:
        prefixes: what is allowed.
        networks: networks whose private hosts may be reached, in CIDR notation.

    Example:
        >>> rules = SourceRules.of(["s3://imagery/2024/", "HTTPS://host:443/maps"])
        >>> rules.check("https://Host/maps/a.tif").url
        'https://host/maps/a.tif'
        >>> rules.check("s3://imagery/2023/a.tif")
        Traceback (most recent call last):
        ndframes.errors.SourceAccessError: s3://imagery/2023/a.tif is not under an address of sources=...
    """

    prefixes: tuple[StoreAddress, ...] = ()
    networks: tuple[str, ...] = ()

    @classmethod
    def of(cls, sources: str | Iterable[str] | None) -> SourceRules:
        """The rules that a user writes: addresses of buckets, hosts and folders; and networks such as ``"10.0.0.0/8"``.

        Raises:
            SourceError: one of them is neither.
        """
        listed = [sources] if isinstance(sources, str) else [] if sources is None else sources
        prefixes: list[StoreAddress] = []
        networks: list[str] = []
        for item in listed if isinstance(listed, Iterable) else [listed]:
            if not isinstance(item, str):
                raise SourceError(f"sources= holds {shorten(item)}; give addresses such as 's3://imagery/'")
            network = _to_network(item)
            if network is not None:
                networks.append(network)
            else:
                prefixes.append(_to_prefix(item))
        return cls(tuple(prefixes), tuple(networks))

    def check(self, url: str) -> StoreAddress:
        """The address that a URL names, if it is allowed.

        Raises:
            SourceAccessError: it is not, or it is no plain address of an object.
        """
        shown = hide_secrets(url)
        try:
            address = to_object_address(url)
        except StoreError as error:
            raise SourceAccessError(f"{shown} cannot be read: {error}") from error
        if not address.prefix:
            raise SourceAccessError(f"{shown} is no object; give the address of one file")
        if any(_contains(prefix, address) for prefix in self.prefixes):
            return address
        folder = address.url.rpartition("/")[0] + "/"
        if not self.prefixes:
            raise SourceAccessError(
                f"{shown} is an address, and no address may be read unless it is allowed; pass sources=[{folder!r}] "
                "(--sources on the command line) if you trust it, or give the path of a file"
            )
        listed = shorten([prefix.url + "/" for prefix in self.prefixes])
        raise SourceAccessError(f"{shown} is not under an address of sources={listed}; add {folder!r} if you trust it")

    def may_connect(self, host: str, address: IPAddress) -> bool:
        """Whether a host of HTTP may have this number: a public one, one that ``sources=`` names itself, or in its networks."""
        if any(_is_named(host, plain) for plain in _forms(address)):
            return True
        return all(
            _is_public(plain) or any(_is_in(plain, ipaddress.ip_network(network)) for network in self.networks)
            for plain in _forms(address)
        )


def to_object_address(url: str) -> StoreAddress:
    """The address of an object in its only form: case, default ports and encoded characters do not matter.

    Raises:
        StoreError: it is no address, or not a plain one.

    Example:
        >>> to_object_address("HTTP://Host:80/a%20b.tif").url
        'http://host/a%20b.tif'
        >>> to_object_address("https://host/a/%2e%2e/b")
        Traceback (most recent call last):
        ndframes.errors.StoreError: the prefix of 'https://host/a/%2e%2e/b' has an empty segment, '.' or '..'; give a plain path
    """
    shown = hide_secrets(url)
    address = parse_address(url)
    if "//" in url.partition("://")[2].rstrip("/"):  # at the beginning, where it would be taken for one
        raise StoreError(f"the address {shown!r} has an empty segment; give a plain path")
    # Servers drop control characters, or take a backslash for a slash, and then the address is another one.
    if _CONTROL.search(url + address.prefix) or (address.is_http and "\\" in url + address.prefix):
        raise StoreError(f"the address {shown!r} has a backslash or a control character; rename the file")
    if address.is_http:
        return StoreAddress(address.scheme, _to_netloc(address.scheme, address.bucket, shown), address.prefix)
    if not _BUCKET.fullmatch(address.bucket):
        raise StoreError(
            f"the address {shown!r} has no valid name of a bucket; give s3://bucket/key, without a host or port"
        )
    return address


def check_driver_path(path: str) -> None:
    """Refuse a name by which GDAL would reach over a network: it knows no rules.

    Raises:
        SourceAccessError: it is one.
    """
    if is_network_path(path):
        raise SourceAccessError(
            f"{path} would be read over a network by GDAL, which sources= does not govern; give the address, such as "
            "s3://bucket/key or https://host/path, and allow it by sources="
        )


def check_object_driver(url: str, driver: str) -> None:
    """Refuse a GDAL driver for a file at an address that may name other files: whoever wrote it would choose what is read here.

    Raises:
        SourceAccessError: the driver is none of those whose files stand alone.
    """
    if driver not in _STANDING_ALONE:
        raise SourceAccessError(
            f"{url}: the files of the driver {driver!r} may name other files, so it is not used at an address; download the file, or leave "
            f"the driver out. Allowed: {', '.join(sorted(_STANDING_ALONE))}"
        )


def is_network_path(path: str) -> bool:
    """Whether a name that only GDAL understands may reach over a network.

    Example:
        >>> is_network_path("/vsizip//vsicurl/https://host/a.zip/b.tif"), is_network_path("/vsizip/a.zip/b.tif")
        (True, False)
    """
    return "://" in path or _NETWORK_PATH.search(path) is not None


def _to_prefix(text: str) -> StoreAddress:
    if not is_url(text):
        raise SourceError(
            f"sources= holds {shorten(text)}, which is no address; give those under which sources may be read, such as "
            "'s3://imagery/' or 'https://host/path/'. Paths of files need no permission"
        )
    try:
        return to_object_address(text)
    except StoreError as error:
        raise SourceError(f"sources= holds {shorten(hide_secrets(text))}: {error}") from error


def _to_network(text: str) -> str | None:
    try:
        return str(ipaddress.ip_network(text.strip()))
    except ValueError:
        return None


def _to_netloc(scheme: str, netloc: str, shown: str) -> str:
    """The host and the port of HTTP in their only form.

    Forms such as ``0x7f.1`` and ``2130706433`` are refused: programs disagree on whether these are numbers of hosts or names.
    """
    match = _NETLOC.fullmatch(netloc.lower())
    host = match["host"] if match else ""
    if match is None or not (_HOST.fullmatch(host) or _to_number(host)):
        raise StoreError(
            f"the address {shown!r} has no valid host; give a name in ASCII, or a number such as 127.0.0.1 or [::1]"
        )
    number = _to_number(host)
    if number is not None:
        host = f"[{number}]" if number.version == 6 else str(number)
    port = "" if match["port"] is None else f":{int(match['port'])}"
    return host + ("" if port == _PORTS[scheme] else port)


def _to_number(host: str) -> IPAddress | None:
    try:
        if host.startswith("["):
            return ipaddress.IPv6Address(host[1:-1])
        return ipaddress.IPv4Address(host)
    except ValueError:
        return None


def _contains(prefix: StoreAddress, address: StoreAddress) -> bool:
    """Whether an address is a prefix, or lies in the folder of that name."""
    if (prefix.scheme, prefix.bucket, prefix.account) != (address.scheme, address.bucket, address.account):
        return False
    return not prefix.prefix or address.prefix == prefix.prefix or address.prefix.startswith(prefix.prefix + "/")


def _forms(address: IPAddress) -> tuple[IPAddress, ...]:
    """An address, and the IPv4 address that it stands for."""
    if address.version == 4:
        return (address,)
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
    if inner is None and any(address in block for block in _TRANSLATED) and int(address) > 1:
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if inner is None:
        return (address,)
    return (inner,) if address.ipv4_mapped or address in _PUBLIC_TRANSLATED else (address, inner)


def _is_named(host: str, address: IPAddress) -> bool:
    """Whether the host is written as this number. The name of this machine counts as its numbers."""
    return _to_number(host) == address or (host == _LOCALHOST and address.is_loopback)


def _is_public(address: IPAddress) -> bool:
    return address.is_global and not address.is_multicast and not address.is_reserved


def _is_in(address: IPAddress, network: IPv4Network | IPv6Network) -> bool:
    return address.version == network.version and address in network
