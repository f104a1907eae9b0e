"""How child processes are ended."""

from __future__ import annotations

import signal
import subprocess

from ndframes.system.children import child_command, end_children

READY = "print('ready', flush=True); "
KINDS = {
    "by itself": (READY + "sys.stdin.read()", 0),
    "after a signal": (READY + "sys.stdin.read(); signal.pause()", -signal.SIGTERM),
    "after the second": (
        "signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL)); "
        + READY
        + "[signal.pause() for _ in range(9)]",
        -signal.SIGTERM,
    ),
    "never": (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); " + READY + "[signal.pause() for _ in range(9)]",
        -signal.SIGKILL,
    ),
}


def test_children_end_by_themselves_or_by_signals():
    children = {
        name: subprocess.Popen(
            child_command("import signal; " + code), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name, (code, _) in KINDS.items()
    }
    for child in children.values():
        assert child.stdout.readline() == "ready\n"
        child.stdin.close()
    # As long as it takes: it waits no longer than for the last one that ends by itself.
    children["by itself"].wait()
    end_children(children.values(), notice_seconds=0.1)
    for name, child in children.items():
        child.stdout.close()
        assert child.returncode == KINDS[name][1], name


def test_a_child_whose_status_was_taken_is_left_alone():
    class Taken:
        polls = 0

        def poll(self):
            self.polls += 1

        def send_signal(self, number):
            raise ProcessLookupError

    taken = Taken()
    end_children([taken])
    assert taken.polls == 1
    end_children([])


def test_the_command_keeps_the_path_of_this_process(monkeypatch, tmp_path):
    (tmp_path / "only_here.py").write_text("print('found')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert subprocess.run(child_command("import only_here"), check=True, capture_output=True).stdout == b"found\n"
