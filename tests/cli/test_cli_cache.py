"""``ndframes cache``: listing, checking, and removing nothing but the cache's own files."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest
from kit.entries import key_of, publish, start_python, tree_of

import ndframes as nf
from ndframes.cache.cache import Cache
from ndframes.cli.cache import _parse_size
from ndframes.text import format_bytes

YEAR = 365 * 24 * 3600.0


@pytest.fixture
def cache(tmp_path):
    """The cache of the commands."""
    return Cache(tmp_path / "work")


def flip(entry, offset):
    data = bytearray(entry.path.read_bytes())
    data[offset] ^= 1
    entry.path.chmod(0o644)
    entry.path.write_bytes(data)


def json_of(result):
    assert result.stderr == ""
    return json.loads(result.stdout)


# -- ls and stat ------------------------------------------------------------------------------------------------------


def test_ls_lists_the_newest_first_with_both_times(run, cache):
    old = publish(cache, 1, used=10 * YEAR)
    new = publish(cache, 2, payload_bytes=5000, used=20 * YEAR)
    os.utime(old.path, (30 * YEAR, 10 * YEAR))
    *lines, last = run("cache", "ls").stdout.splitlines()
    minute = "%Y-%m-%d %H:%M"
    assert [line.split("  ")[-3:] for line in lines] == [
        [
            time.strftime(minute, time.localtime(20 * YEAR)),
            "used " + time.strftime(minute, time.localtime(20 * YEAR)),
            new.key.relative_path,
        ],
        [
            time.strftime(minute, time.localtime(10 * YEAR)),
            "used " + time.strftime(minute, time.localtime(30 * YEAR)),
            old.key.relative_path,
        ],
    ]
    assert last == f"2 entries, {format_bytes(old.size_bytes + new.size_bytes)} in {cache.root}"
    listed = json_of(run("cache", "ls", "--json"))
    assert [entry["path"] for entry in listed["entries"]] == [str(new.path), str(old.path)]
    assert [entry["used"] for entry in listed["entries"]] == [20 * YEAR, 30 * YEAR]
    assert listed["total_bytes"] == old.size_bytes + new.size_bytes


@pytest.mark.parametrize("command", ["ls", "stat", "verify", "gc", "clear"])
def test_a_missing_cache_is_empty(run, tmp_path, command):
    result = run("cache", command)
    assert (result.exit_code, result.stderr) == (0, "")
    assert json_of(run("cache", command, "--json"))["root"] == str(tmp_path / "work" / "ndframes-cache")
    assert list(tmp_path.iterdir()) == []


def test_stat_counts_entries(run, cache):
    publish(cache, 1)
    publish(cache, 1, state=1)
    publish(cache, 2, form="cog")
    rows = dict(line.split(None, 1) for line in run("cache", "stat").stdout.splitlines() if not line.startswith(" "))
    assert rows["entries"] == f"3 entries, {format_bytes(sum(entry.size_bytes for entry in cache.ls()))}"
    assert rows["superseded"].startswith("1 entry, ")
    assert rows["quarantine"] == "none"
    stat = json_of(run("cache", "stat", "--json"))
    assert (stat["entries"], stat["superseded"], len(stat["by_backend"])) == (3, 1, 2)
    assert stat["workdir"] == str(cache.workdir)


def test_workdir_selects_another_cache(run, cache, tmp_path):
    publish(cache)
    assert json_of(run("cache", "stat", "--json", "--workdir", tmp_path / "other"))["entries"] == 0
    assert json_of(run("cache", "stat", "--json", "--workdir", cache.workdir))["entries"] == 1


# -- verify -----------------------------------------------------------------------------------------------------------


def test_verify_of_a_sound_cache(run, cache):
    publish(cache, 1)
    publish(cache, 2)
    for options in ((), ("--read-data",), ("--read-data", "--repair")):
        result = run("cache", "verify", *options)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.startswith("2 checked (")
        assert "0 bad" in result.stdout


def test_verify_lists_and_repairs_damaged_entries(run, cache):
    publish(cache, 1)
    bad = publish(cache, 2)
    flip(bad, 500)
    assert run("cache", "verify").exit_code == 0
    result = run("cache", "verify", "--read-data")
    assert result.exit_code == 1
    assert "2 checked" in result.stdout
    assert "1 bad" in result.stdout
    assert re.fullmatch(rf"bad: {re.escape(str(bad.path))}: segment 1 .* is not what was written\n", result.stderr)
    assert bad.path.exists()
    result = run("cache", "verify", "--read-data", "--json")
    assert result.exit_code == 1
    report = json_of(result)
    assert (report["ok"], report["checked"], report["repaired"]) == (False, 2, 0)
    assert [item["path"] for item in report["bad"]] == [str(bad.path)]
    result = run("cache", "verify", "--read-data", "--repair")
    assert result.exit_code == 1
    assert "1 taken out of the way" in result.stdout
    assert not bad.path.exists()
    assert run("cache", "verify", "--read-data").exit_code == 0
    assert json_of(run("cache", "gc", "--json"))["leftovers"] == 1


def test_verify_shows_progress_on_a_terminal(cache, monkeypatch):
    for number in range(3):
        publish(cache, number, payload_bytes=2_000_000)
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "ndframes", "cache", "verify", "--read-data", "--workdir", str(cache.workdir)]
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(os.path.dirname(nf.__file__)))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=follower, text=True) as process:
        stdout, _ = process.communicate(timeout=60)
    os.close(follower)
    shown = b""
    while select.select([leader], [], [], 0)[0]:
        try:
            shown += os.read(leader, 10_000)
        except OSError:  # Linux: the other end is closed
            break
    os.close(leader)
    total = sum(entry.size_bytes for entry in cache.ls())
    assert f"{total}/{total}".encode() in shown
    assert stdout.startswith("3 checked (6 MB, every byte read), 0 bad, in ")


# -- gc and clear -----------------------------------------------------------------------------------------------------


def test_gc_removes_superseded_entries(run, cache):
    old = publish(cache, 1, used=YEAR)
    new = publish(cache, 1, state=1)
    before = tree_of(cache.root)
    planned = run("cache", "gc", "--dry-run")
    assert tree_of(cache.root) == before
    size = format_bytes(old.size_bytes)
    assert planned.stdout.splitlines() == [
        str(old.path),
        f"1 entry and 0 leftovers would be removed ({size}), 1 kept ({size})",
        f"cache: {cache.root}",
    ]
    result = run("cache", "gc")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"1 entry and 0 leftovers removed ({size}), 1 kept")
    assert [entry.key for entry in cache.ls()] == [new.key]


def test_gc_limits_the_size(run, cache):
    sizes = {publish(cache, number, used=YEAR + number).size_bytes for number in range(10)}
    (one,) = sizes
    report = json_of(run("cache", "gc", "--max-bytes", f"{3 * one / 1000}kB", "--json"))
    assert (report["removed"], report["kept"], report["remaining_bytes"]) == (7, 3, 3 * one)
    assert {entry.key for entry in cache.ls()} == {key_of(number) for number in (7, 8, 9)}
    report = json_of(run("cache", "gc", "--max-bytes", "0", "--dry-run", "--json"))
    assert (report["removed"], report["is_dry_run"], len(report["paths"])) == (3, True, 3)
    assert run("cache", "gc", "--max-bytes", 0).exit_code == 0
    assert list(cache.ls()) == []


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1234567", 1234567),
        ("12b", 12),
        ("500MB", 500_000_000),
        ("500 mb", 500_000_000),
        ("2.5GB", 2_500_000_000),
        ("1TiB", 2**40),
        ("1.5k", 1500),
        ("3KiB", 3072),
        ("0.1GB", 100_000_000),
        (" 7 ", 7),
        ("2PB", 2 * 10**15),
    ],
)
def test_sizes_have_units(text, size):
    assert _parse_size(None, None, text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "1e9", "1 GB GB", "1XB", "iB", "1iB", "1,000", "nan", "0x10", "٣"])
def test_bad_sizes_are_refused(run, cache, text):
    publish(cache)
    result = run("cache", "gc", f"--max-bytes={text}")
    assert result.exit_code == 2
    assert "write 500MB, 2.5GB, 1TiB or a number of bytes" in " ".join(result.stderr.split())
    assert len(list(cache.ls())) == 1


def test_clear_removes_every_entry(run, cache):
    for number in range(3):
        publish(cache, number)
    planned = run("cache", "clear", "--dry-run").stdout.splitlines()
    assert sorted(planned[:3]) == sorted(str(entry.path) for entry in cache.ls())
    assert len(list(cache.ls())) == 3
    assert run("cache", "clear").stdout.startswith("3 entries and 0 leftovers removed (")
    assert list(cache.ls()) == []


def test_leased_entries_are_kept(run, cache):
    publish(cache, 1)
    publish(cache, 2)
    code = f"""
cache = Cache({str(cache.workdir)!r})
cache.hold([key_of(1)])
say("held")
sys.stdin.readline()
"""
    with start_python(code) as process:
        assert process.stdout.readline() == "held\n"
        assert "1 kept (1 for other jobs)" in run("cache", "clear").stdout
        assert json_of(run("cache", "stat", "--json"))["leased"] == 1
        process.send_signal(signal.SIGKILL)
    assert json_of(run("cache", "clear", "--json"))["removed"] == 1


@pytest.mark.parametrize("command", [("gc",), ("gc", "--dry-run"), ("clear",), ("clear", "--json")])
def test_other_folders_are_refused(run, tmp_path, command):
    folder = tmp_path / "work" / "ndframes-cache" / "v1" / ("b" * 12) / "55"
    folder.mkdir(parents=True)
    (folder / f"{'5' * 32}.{'7' * 32}.tif").write_bytes(b"mine")
    before = tree_of(tmp_path)
    result = run("cache", *command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("ndframes: error: ")
    assert "does not bear the marks of a cache" in result.stderr
    assert result.stderr.count("\n") == 1
    assert tree_of(tmp_path) == before
