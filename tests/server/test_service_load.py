"""Services under load: floods, slow conversions, clients that leave, entries that vanish or are damaged."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from kit.waiting import wait_until

import ndframes as nf
from ndframes.entries.conversion import Conversion
from ndframes.errors import RemoteError
from ndframes.server import ServiceLimits, serve


class Gated(nf.SimpleFrames):
    """Frames whose reads wait for a gate."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        self.gate = threading.Event()
        self.gate.set()
        self.reads = self.at_once = self.most_at_once = 0
        self._counting = threading.Lock()

    def load_region(self, *arguments, **options):
        return self._read(super().load_region, *arguments, **options)

    def load_regions(self, *arguments, **options):
        return self._read(super().load_regions, *arguments, **options)

    def _read(self, read, *arguments, **options):
        with self._counting:
            self.reads += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            assert self.gate.wait(60)
            return read(*arguments, **options)
        finally:
            with self._counting:
                self.at_once -= 1


@pytest.fixture
def frames(tmp_path, gradient, at_rest):
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", gradient)
    frames = Gated({name: tmp_path / f"{name}.npy" for name in "ab"}, workdir=tmp_path / "work")
    yield frames
    frames.gate.set()


def stats_of(site):
    return site.ask("/stats").json


def try_to_list(remote) -> bool:
    try:
        return len(remote) > 0
    except RemoteError:
        return False


def ask_many(site, count, path="/frames/a/region"):
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: site.ask(path), range(count)))


def test_a_flood_for_a_cold_image_converts_it_once(tmp_path, frames, serve_frames, monkeypatch):
    converted = []
    run = Conversion.run

    def count(self, **options):
        converted.append(self)
        return run(self, **options)

    monkeypatch.setattr(Conversion, "run", count)

    site, _ = serve_frames(frames)
    replies = ask_many(site, 200)
    assert {reply.status for reply in replies} == {200}
    wanted = nf.open(tmp_path / "a.npy")[...]
    assert all(np.array_equal(np.load(io.BytesIO(reply.body)), wanted) for reply in replies)
    assert len(converted) == 1
    assert len(list(frames.cache.ls())) == 1
    assert frames.most_at_once <= ServiceLimits().threads
    assert stats_of(site)["bytes_in_use"] == 0


def test_an_image_that_is_converted_holds_up_no_other(tmp_path, frames, serve_frames, monkeypatch):
    open_gate, begun = threading.Event(), threading.Event()
    image = frames.image

    def wait_to_open(image_id):
        if image_id == "a":
            begun.set()
            assert open_gate.wait(60)
        return image(image_id)

    monkeypatch.setattr(frames, "image", wait_to_open)
    site, _ = serve_frames(frames, limits=ServiceLimits(threads=2))
    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(site.ask, "/frames/a/region") for _ in range(20)]
        assert begun.wait(60)
        wait_until(lambda: site.ask("/health").json["waiting"] == 20)
        assert site.ask("/frames/b/region").status == 200
        assert site.ask("/health").status == 200
        open_gate.set()
        assert {item.result().status for item in waiting} == {200}


def test_too_many_requests_are_told_to_come_again(frames, serve_frames):
    site, remote = serve_frames(frames, limits=ServiceLimits(threads=1, max_waiting=3))
    remote.image_ids  # noqa: B018 - asked for now
    frames.gate.clear()
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(site.ask, "/frames/a/region") for _ in range(3)]
        wait_until(lambda: site.ask("/health").json["waiting"] == 3)
        reply = site.ask("/frames/a/region")
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert reply.json["error"]["type"] == "RemoteError"
        # What needs no thread of the reads is answered.
        assert {site.ask(path).status for path in ("/health", "/stats", "/metrics")} == {200}
        impatient = nf.connect(site.address, timeout=3)
        with pytest.raises(RemoteError, match="requests wait"):
            impatient.load_region("a")
        with ThreadPoolExecutor(1) as other:
            patient = other.submit(remote.load_region, "a")
            frames.gate.set()
            assert patient.result().shape == (37, 53, 3)
        assert {item.result().status for item in waiting} == {200}


def test_answers_share_a_budget_of_memory(frames, serve_frames):
    whole = frames.load_image("a").nbytes
    site, _ = serve_frames(frames, limits=ServiceLimits(max_total_bytes=3 * whole))
    frames.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(site.ask, "/frames/a/region")
        wait_until(lambda: frames.at_once == 1)
        second = site.ask("/frames/a/region")
        assert (second.status, second.headers["retry-after"]) == (503, "1")
        assert "memory" in second.json["error"]["message"]
        frames.gate.set()
        assert first.result().status == 200
    assert site.ask("/frames/a/region").status == 200
    wait_until(lambda: stats_of(site)["bytes_in_use"] == 0)


def test_a_request_that_takes_too_long_is_given_up(frames, serve_frames):
    site, remote = serve_frames(frames, limits=ServiceLimits(threads=1, deadline_seconds=0.3))
    wait_until(lambda: site.ask("/frames/a/region").status == 200)
    wait_until(lambda: try_to_list(remote))
    frames.gate.clear()
    replies = ask_many(site, 4)
    assert [reply.status for reply in replies] == [504] * 4
    with pytest.raises(RemoteError, match=r"not done after 0\.3 s"):
        remote.load_region("a")
    reads = frames.reads
    frames.gate.set()
    asked = 0

    def ask_again() -> bool:
        nonlocal asked
        asked += 1
        return site.ask("/frames/a/region").status == 200

    wait_until(ask_again)
    # Requests that had not begun did not begin.
    assert frames.reads <= reads + asked
    wait_until(lambda: stats_of(site).get("bytes_in_use") == 0)


def test_clients_that_leave(frames, serve_frames):
    site, _ = serve_frames(frames, limits=ServiceLimits(threads=1))
    assert site.ask("/frames/a/region").status == 200
    frames.gate.clear()
    clients = [site.connect("/frames/a/region") for _ in range(30)]
    wait_until(lambda: site.ask("/health").json["waiting"] == 30)
    wait_until(lambda: frames.at_once == 1)
    for client in clients:
        client.close()
    # While the first read still runs, the others leave the queue.
    wait_until(lambda: site.ask("/health").json["waiting"] == 0)
    reads = frames.reads
    frames.gate.set()
    assert site.ask("/frames/a/region").status == 200
    assert frames.reads == reads + 1
    assert stats_of(site)["left"] == 30
    assert "ndframes_left_total 30\n" in site.ask("/metrics").text
    wait_until(lambda: stats_of(site)["bytes_in_use"] == 0)


def test_entries_that_are_evicted_or_damaged(tmp_path, frames, serve_frames):
    site, remote = serve_frames(frames)
    wanted = frames.load_image("a")
    for _ in range(3):
        assert frames.cache.clear().removed
        frames.refresh()
        assert np.array_equal(remote.load_region("a"), wanted)
    (entry,) = frames.cache.ls()
    data = entry.path.read_bytes()
    entry.path.chmod(0o644)
    entry.path.write_bytes(flip_bits_of(data))
    frames.refresh()
    assert np.array_equal(remote.load_region("a"), wanted)
    assert site.ask("/frames/a/region").status == 200


def flip_bits_of(data: bytes) -> bytes:
    """Bytes with a change in each kB, so that each tile is damaged."""
    changed = bytearray(data)
    for place in range(400, len(changed), 500):
        changed[place] ^= 0x55
    return bytes(changed)


def test_a_server_that_stops_while_it_reads(frames, serve_frames):
    with serve(frames) as service:
        remote = nf.connect(service.address)
        remote.load_region("a")
        frames.gate.clear()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(remote.load_region, "a")
            wait_until(lambda: frames.at_once == 1)
            assert service.stop(30)
            frames.gate.set()
            with pytest.raises(RemoteError, match="is it still running"):
                waiting.result()
