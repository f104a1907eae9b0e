"""Prometheus: numbers in the text format 0.0.4, which Prometheus and its relatives read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

__all__ = ["TEXT_TYPE", "Family", "Sample", "format_families", "sample_histogram"]
TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Sample(NamedTuple):
    """A number.

    Attributes:
        value: the number.
        labels: by their names.
        suffix: of its name, such as ``"_bucket"``.
    """

    value: float
    labels: Mapping[str, str] = {}
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """Numbers of one name.

    Attributes:
        name: by the rules of Prometheus, with the unit at its end.
        kind: a counter only grows.
        text: what it is, in one line.
        samples: the numbers; without any, the family is left out.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    samples: Sequence[Sample] = field(default=())


def format_families(families: Iterable[Family]) -> str:
    r"""Numbers as text.

    Example:
        >>> print(format_families([Family("sent_bytes_total", "counter", "Bytes.", [Sample(5, {"to": 'a"b'})])]), end="")
        # HELP sent_bytes_total Bytes.
        # TYPE sent_bytes_total counter
        sent_bytes_total{to="a\"b"} 5
    """
    lines = []
    for family in families:
        if not family.samples:
            continue
        lines += [f"# HELP {family.name} {family.text}", f"# TYPE {family.name} {family.kind}"]
        for sample in family.samples:
            labels = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in sample.labels.items())
            shown = f"{{{labels}}}" if labels else ""
            lines.append(f"{family.name}{sample.suffix}{shown} {_format_number(sample.value)}")
    return "".join(f"{line}\n" for line in lines)


def sample_histogram(
    bounds: Sequence[float], counts: Sequence[float], total: float, labels: Mapping[str, str]
) -> list[Sample]:
    """The samples of a histogram.

    Args:
        bounds: the upper bounds of its buckets.
        counts: the values in each bucket, and above the last bound.
        total: the sum of the values.
        labels: of all samples.

    Example:
        >>> [(sample.suffix, sample.value) for sample in sample_histogram([1.0], [3, 2], 9.5, {})]
        [('_bucket', 3.0), ('_bucket', 5.0), ('_sum', 9.5), ('_count', 5.0)]
    """
    samples, below = [], 0.0
    for bound, count in zip([*bounds, math.inf], counts, strict=True):
        below += count
        samples.append(Sample(below, {**labels, "le": _format_number(bound)}, "_bucket"))
    return [*samples, Sample(total, labels, "_sum"), Sample(below, labels, "_count")]


def _format_number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if float(value).is_integer() else repr(float(value))
