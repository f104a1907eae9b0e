"""Numbers, byte counts, durations and lists as text; addresses without their secrets."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "count_noun",
    "format_bytes",
    "format_number",
    "format_seconds",
    "hide_secrets",
    "list_first",
    "parse_bytes",
    "without_secrets",
]
_LISTED = 20
_SIZE = re.compile(r"(?P<number>[0-9]{1,18}(?:\.[0-9]{1,18})?) ?(?:(?P<unit>[kmgtp])(?P<binary>i)?)?b?", re.IGNORECASE)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+")
# The values of query parameters, and the part of an URL before the host, may be secrets.
_QUERY = re.compile(r"([?&;][\w.~%-]+=)[^&\s\"'<>]+")
# A port that is none, and a query or a fragment up to the end, whatever is in it.
_PORT = re.compile(r":(?!\d*$)[^\]]*$")
_TAIL = re.compile(r"[?#].*", re.DOTALL)
_USER = re.compile(r"(://)[^/\s@\"'<>]+@")
_POWERS = ("", "k", "m", "g", "t", "p")


def format_bytes(count: float) -> str:
    """A byte count in units of powers of 1000, with three digits.

    Example:
        >>> format_bytes(201_326_592)
        '201 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def parse_bytes(text: str) -> int | None:
    """A number of bytes from a text with a unit; ``None`` if the text is not one.

    Example:
        >>> [parse_bytes(text) for text in ("7", "500MB", "0.1 GB", "2.5TiB", "many")]
        [7, 500000000, 100000000, 2748779069440, None]
    """
    # Imported here: few programs need it.
    from decimal import Decimal

    match = _SIZE.fullmatch(text.strip())
    if match is None:
        return None
    factor = (1024 if match["binary"] else 1000) ** _POWERS.index((match["unit"] or "").lower())
    # Exactly: 0.1GB is 100,000,000 bytes, which floats would miss.
    return int(Decimal(match["number"]) * factor)


def format_number(value: float) -> str:
    """A number with four digits; from 1,000 to a billion, as a whole number.

    Example:
        >>> format_number(12776.4), format_number(0.123456), format_number(255.0), format_number(3e12)
        ('12,776', '0.1235', '255', '3e+12')
    """
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


def format_seconds(seconds: float) -> str:
    """A duration with two digits.

    Example:
        >>> [format_seconds(span) for span in (0, 0.00123, 0.0456, 1.26, 75, 5000, 400_000)]
        ['0 s', '1.2 ms', '46 ms', '1.3 s', '75 s', '83 min', '4.6 days']
    """
    for unit, extent, most in (("ms", 1e-3, 1), ("s", 1, 100), ("min", 60, 6000), ("h", 3600, 172_800)):
        if 0 < seconds < most:
            return f"{_two_digits(seconds / extent)} {unit}"
    return f"{_two_digits(seconds / 86_400)} days" if seconds else "0 s"


def _two_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def count_noun(number: int, noun: str) -> str:
    """A number and a noun in its singular or plural.

    Example:
        >>> count_noun(1, "entry"), count_noun(2000, "entry")
        ('1 entry', '2,000 entries')
    """
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number:,} {noun if number == 1 else plural}"


def list_first(lines: Iterable[str]) -> list[str]:
    """The first 20 lines, indented, and the number of the others.

    Example:
        >>> list_first(["a", "b"]), list_first(map(str, range(1021)))[-1]
        (['  a', '  b'], '  ... and 1,001 more')
    """
    remaining = iter(lines)
    listed = [f"  {line}" for line in islice(remaining, _LISTED)]
    more = sum(1 for _ in remaining)
    return [*listed, f"  ... and {more:,} more"] if more else listed


def hide_secrets(url: str) -> str:
    """An address that a user gave, as :func:`without_secrets`; also where it is not valid, so that nobody can tell what is secret in it.

    Example:
        >>> hide_secrets("https://me:a/b@host/a.tif?abc#d")
        'https://...@host/a.tif?...'
        >>> hide_secrets("az://tiles@acme:secret/a")
        'az://...'
        >>> hide_secrets("s3://imagery/a@2.tif")
        's3://imagery/a@2.tif'
    """
    scheme, mark, rest = url.partition("://")
    if not mark or _SCHEME.fullmatch(scheme) is None:
        return url
    host, slash, path = rest.partition("/")
    if "@" in host:
        user, _, host = host.rpartition("@")
        host = "...@" + host if user else host
    elif ":" in host and "@" in path:  # a password with a slash
        host, slash, path = "...@" + path.rpartition("@")[2], "", ""
    if _PORT.search(host):
        return f"{scheme}://..."
    shown = host + slash + path
    if scheme.lower() in ("http", "https"):
        shown = _TAIL.sub("?...", shown)
    return without_secrets(f"{scheme}://{shown}")


def without_secrets(text: str) -> str:
    """A text for messages: URLs in it lose their user, password, and the values of their queries.

    Example:
        >>> without_secrets("GET https://me:pw@host/a?sig=abc&x=1 failed")
        'GET https://...@host/a?sig=...&x=... failed'
    """
    return _QUERY.sub(r"\1...", _USER.sub(r"\1...@", text))
