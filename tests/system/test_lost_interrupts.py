"""A KeyboardInterrupt that a finalizer dropped is raised again."""

from __future__ import annotations

import signal
import sys

import pytest

from ndframes.system.interrupts import lost_interrupts_repeated


def lose_an_interrupt_and_fail() -> None:
    Failing(KeyboardInterrupt())
    raise ValueError("an error of the block")


class Failing:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __del__(self) -> None:
        raise self.error


def test_other_errors_are_reported_as_before(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: seen.append(str(unraisable.exc_value)))
    before = sys.unraisablehook
    with lost_interrupts_repeated():
        Failing(ValueError("a finalizer failed"))
        assert seen == ["a finalizer failed"]
    assert sys.unraisablehook is before


def test_an_interrupt_is_raised_in_the_block_and_the_hook_is_restored():
    before = sys.unraisablehook
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), lost_interrupts_repeated():
        Failing(KeyboardInterrupt())
    assert sys.unraisablehook is before
    # An error of the block does not hide it.
    with pytest.raises(KeyboardInterrupt), lost_interrupts_repeated():
        lose_an_interrupt_and_fail()
    assert sys.unraisablehook is before
    assert signal.getsignal(signal.SIGINT) is handler
