"""``ndframes serve --workers``: processes that share a port, are replaced when they die, and never outlive the command."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from kit.http_requests import Site
from kit.waiting import wait_until

import ndframes as nf

TOKEN = "a-token-of-these-tests"


@pytest.fixture
def start(tmp_path, spawn, gradient, monkeypatch):
    """Start the command; returns its process and the site, when each worker answers."""
    (tmp_path / "scans").mkdir()
    for name in ("a", "b"):
        np.save(tmp_path / "scans" / f"{name}.npy", gradient)
    monkeypatch.setenv("NDFRAMES_TOKEN", TOKEN)

    def run(*arguments):
        process = spawn("serve", "scans", "--workers", 2, *arguments)
        site = Site(process.stdout.readline().strip())
        assert site.token == TOKEN
        return process, site

    return run


def pids_of_workers(process) -> list[int]:
    """The children of a process that run."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    # Those of its other threads, too: a replacement is started by one.
    threads = Path(f"/proc/{process.pid}/task").iterdir() if children.exists() else ()
    return sorted(int(pid) for thread in threads for pid in (thread / "children").read_text().split())


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def count_requests(site: Site) -> int:
    """The requests for regions that were answered, by the counts of all workers."""
    lines = site.ask("/metrics").text.splitlines()
    name = 'ndframes_requests_total{endpoint="/frames/{name}/region"'
    return sum(int(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def ask_again(site: Site, path: str):
    """Ask until there is an answer: a connection of a worker that is killed is lost with it."""
    replies = []

    def ask() -> bool:
        try:
            replies.append(site.ask(path))
        except (ConnectionError, OSError):
            return False
        return True

    wait_until(ask)
    return replies[-1]


def is_port_free(site: Site) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(site.place)
        except OSError:
            return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_requests_and_a_signal(start, tmp_path, gradient, number):
    process, site = start("--access-log", "access.jsonl")
    pids = pids_of_workers(process)
    assert len(pids) == 2
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda row: site.ask(f"/frames/a/region?y={row % 37}&x="), range(60)))
    assert [reply.status for reply in replies] == [200] * 60
    remote = nf.connect(site.address)
    assert np.array_equal(remote.load_image("b"), gradient)
    wait_until(lambda: count_requests(site) == 60)
    lines = [json.loads(line) for line in (tmp_path / "access.jsonl").read_text().splitlines()]
    assert sum(line["endpoint"] == "/frames/{name}/region" for line in lines) == 60
    assert TOKEN not in (tmp_path / "access.jsonl").read_text()
    # A client in the middle of a request holds nothing up.
    with site.connect() as client:
        client.sendall(b"GET /frames HTTP/1.1\r\n")
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, "", "")
    assert not any(map(is_running, pids))
    assert is_port_free(site)


def test_ctrl_c_at_a_terminal_reaches_the_workers_too(start):
    process, _ = start()
    pids = pids_of_workers(process)
    for pid in pids:
        os.kill(pid, signal.SIGINT)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert process.stderr.read() == ""
    assert not any(map(is_running, pids))


def test_a_worker_that_dies_is_replaced(start, gradient):
    process, site = start()
    for _ in range(5):
        assert site.ask("/frames/a/region").status == 200
    wait_until(lambda: count_requests(site) == 5)
    first, second = pids_of_workers(process)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len(pids_of_workers(process)) == 2 and first not in pids_of_workers(process))
    (new,) = set(pids_of_workers(process)) - {second}
    line = process.stderr.readline()
    assert line == f"worker process {first} was killed by SIGKILL; process {new} takes its place\n"
    # The other one answers meanwhile, and what the dead one has counted is kept.
    assert ask_again(site, "/frames/a/region").status == 200
    wait_until(lambda: count_requests(site) == 6)
    # The new one answers alone when the other one dies.
    os.kill(second, signal.SIGKILL)
    body = ask_again(site, "/frames/a/region").body
    assert body.endswith(gradient.tobytes())
    wait_until(lambda: count_requests(site) == 7)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def test_workers_that_die_again_and_again_end_the_command(start):
    process, site = start()
    seen = set()
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        for pid in pids_of_workers(process):
            if pid not in seen:
                seen.add(pid)
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    *_, told = errors.splitlines()
    assert told.startswith("ndframes: error: worker process ")
    assert told.endswith("was killed by SIGKILL, the 5th time within 60 s")
    assert errors.count("takes its place") <= 8
    assert not any(map(is_running, seen))
    assert is_port_free(site)


def test_no_worker_outlives_a_command_that_is_killed(start):
    process, site = start()
    pids = pids_of_workers(process)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    wait_until(lambda: not any(map(is_running, pids)))
    assert is_port_free(site)


@pytest.mark.slow
def test_a_worker_that_hangs_is_killed_in_the_end(start):
    process, _ = start()
    pids = pids_of_workers(process)
    os.kill(pids[0], signal.SIGSTOP)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert time.monotonic() - began < 30
    assert not any(map(is_running, pids))


def test_what_does_not_start_leaves_nothing_behind(tmp_path, run, gradient):
    np.save(tmp_path / "a.npy", gradient)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("serve", "a.npy", "--workers", 2, "--port", port)
        assert result.exit_code == 2
        assert "cannot listen" in result.output
    result = run("serve", "a.npy", "--workers", 2, "--token", "short")
    assert (result.exit_code, "short" in result.output) == (2, False)
    for workers in (1, 2):
        result = run("serve", "a.npy", "--workers", workers, "--access-log", "no/such/folder/log")
        assert result.exit_code == 2
        assert "the access log no/such/folder/log cannot be opened: No such file or directory" in result.output
    assert run("serve", "a.npy", "--workers", 0).exit_code == 2


def test_the_access_log_of_one_process_goes_to_stdout_or_follows_its_file(tmp_path, spawn, gradient):
    np.save(tmp_path / "a.npy", gradient)
    process = spawn("serve", "a.npy", "--access-log", "-")
    site = Site(process.stdout.readline().strip())
    assert site.ask("/frames/a/region?y=0&token=secret").status == 400
    line = json.loads(process.stdout.readline())
    assert (line["path"], line["query"], line["status"]) == ("/frames/a/region", "y=0&...", 400)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "")

    log = tmp_path / "access.jsonl"
    process = spawn("serve", "a.npy", "--access-log", log)
    site = Site(process.stdout.readline().strip())
    assert site.ask("/health").status == 200
    wait_until(lambda: log.read_text().count("\n") == 1)
    log.rename(tmp_path / "access.1")
    assert site.ask("/stats").status == 200
    wait_until(lambda: log.exists() and log.read_text().count("\n") == 1)
    assert "/stats" in log.read_text()
    assert "/health" in (tmp_path / "access.1").read_text()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "")
