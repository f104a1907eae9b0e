"""What experiments report: counts of what was done, and of violated guarantees."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .fork_server import ChildResult

__all__ = ["ExperimentResult", "Recorder"]
_MOST_NOTES = 10
_NOTE_CHARS = 600


@dataclass(frozen=True, slots=True)
class ExperimentResult:
    """The outcome of an experiment.

    Attributes:
        name: of the experiment.
        counts: how often each thing was done.
        violations: how often each guarantee of the cache was violated.
        notes: details of the first violations.
        seconds: the duration.
        skipped: why the experiment did not run; empty if it ran.

    Example:
        >>> result = ExperimentResult("kills", {"kills": 1000}, {"wrong crops": 0, "leftovers": 0}, seconds=100)
        >>> print(result, result.ok)
        kills: 1,000 kills: 0 wrong crops, 0 leftovers True
    """

    name: str
    counts: Mapping[str, int] = field(default_factory=dict)
    violations: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    skipped: str = ""

    @property
    def ok(self) -> bool:
        """Whether there were no violations."""
        return not any(self.violations.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain data, under the keys of ``verify_filesystem --json``."""
        return {
            "name": self.name,
            "done": dict(self.counts),
            "broken": dict(self.violations),
            "notes": list(self.notes),
            "seconds": self.seconds,
            "skipped": self.skipped,
            "ok": self.ok,
        }

    def __str__(self) -> str:
        if self.skipped:
            return f"{self.name}: skipped, {self.skipped}"
        line = f"{self.name}: {_list_counts(self.counts)}: {_list_counts(self.violations)}"
        return "\n".join([line, *(f"  {note}" for note in self.notes)])


class Recorder:
    """Collects the counts of an experiment, from many trials and processes.

    Args:
        guarantees: names of violations that the result lists even if there are none.
    """

    def __init__(self, *guarantees: str) -> None:
        self.counts: Counter[str] = Counter()
        self.violations: Counter[str] = Counter(dict.fromkeys(guarantees, 0))
        self.notes: list[str] = []
        self._started = time.perf_counter()

    def count(self, what: str, number: int = 1) -> None:
        """Add ``number`` to a count."""
        self.counts[what] += number

    def violate(self, guarantee: str, number: int = 1, note: str = "") -> None:
        """Record ``number`` violations of a guarantee; 0 records none."""
        self.violations[guarantee] += number
        # A broken cache violates a guarantee thousands of times: the first notes suffice.
        if number and len(self.notes) < _MOST_NOTES:
            self.notes.append(f"{guarantee}: {note.strip()[-_NOTE_CHARS:]}" if note else guarantee)

    def merge(self, other: Recorder, context: str = "") -> None:
        """Add what another process recorded; ``context`` goes in front of its notes."""
        self.counts.update(other.counts)
        self.violations.update(other.violations)
        self.notes += [f"{context}: {note}" if context else note for note in other.notes]
        del self.notes[_MOST_NOTES:]

    def merge_child(self, child: ChildResult, context: str) -> None:
        """Add what a child recorded; a child that returned nothing is a violation itself."""
        if child.ok:
            self.merge(child.value, context)
        else:
            guarantee = "timeouts" if child.timed_out else "unexpected exits"
            self.violate(guarantee, note=f"{context}: status {child.status}: {child.problem}")

    def finish(self, name: str) -> ExperimentResult:
        """The result of the experiment ``name``, with all that was recorded so far."""
        seconds = time.perf_counter() - self._started
        return ExperimentResult(name, dict(self.counts), dict(self.violations), tuple(self.notes), seconds)


def _list_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {what}" for what, number in counts.items())
