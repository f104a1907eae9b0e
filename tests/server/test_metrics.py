"""``/metrics``: what another program's parser reads from it is what was asked for."""

from __future__ import annotations

import math
import os
from collections import Counter

import numpy as np
import pytest
from kit.waiting import wait_until

import ndframes as nf
from ndframes.server import ServiceLimits
from ndframes.server.exchanges import Exchange
from ndframes.server.metrics import Board, Metrics
from ndframes.server.prometheus import Family, Sample, format_families

parser = pytest.importorskip("prometheus_client.parser", reason="the parser of prometheus-client is an extra of tests")


def read_samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The samples by their names and labels."""
    found = {}
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def key_of(name: str, **labels: str) -> tuple:
    return name, tuple(sorted(labels.items()))


@pytest.fixture
def frames(tmp_path, gradient):
    np.save(tmp_path / "a.npy", gradient)
    # Large enough for a cache entry of tiles.
    np.save(tmp_path / "tiled.npy", np.tile(gradient, (9, 9, 1)))
    sources = {"a": tmp_path / "a.npy", "tiled": tmp_path / "tiled.npy"}
    return nf.SimpleFrames(sources, workdir=tmp_path / "work", backend="cog")


def test_requests_are_counted_by_endpoint_and_status(frames, serve_frames):
    site, _ = serve_frames(frames, limits=ServiceLimits(max_pixels=200_000))
    counted, sent = Counter(), Counter()

    def ask(endpoint, path, method="GET", times=1, **options):
        for _ in range(times):
            reply = site.ask(path, method, **options)
            counted[endpoint, method, str(reply.status)] += 1
            sent[endpoint] += len(reply.body)
        return reply

    region = "/frames/{name}/region"
    ask(region, "/frames/a/region?y=0:9", times=3)
    ask(region, "/frames/a/region?y=0:9", "HEAD", times=2)
    ask(region, f"/k/{site.token}/frames/a/region?y=3:5", has_token=False)
    ask(region, "/frames/a/region?y=wrong")
    ask(region, "/frames/nobody/region")
    ask(region, "/frames/tiled/region?scale=2")
    ask("/regions", "/regions", "POST", body=b'[{"id": "a"}]')
    ask("/regions", "/regions", "POST", body=b"[")
    (file,) = ask("/frames/{name}/tiles", "/frames/tiled/tiles").json["files"]
    tiles = "/frames/{name}/{state}/tiles/{level}"
    path = f"/frames/tiled/{file['state']}/tiles/0"
    etag = ask(tiles, path).headers["etag"]
    ask(tiles, path, times=2, **{"If-None-Match": etag})
    ask(tiles, "/frames/tiled/another/tiles/0")
    ask("/iiif/{name}", "/iiif/a")
    ask("/iiif/{name}/{region}/{size}/{rotation}/{last}", "/iiif/a/full/max/22/default.png")
    ask("/", "/", has_token=False)
    for name in ("page.js", "page.css"):
        ask("/static/{name}", f"/static/{name}", has_token=False)
    ask("none", "/frames", has_token=False, times=4)
    ask("none", f"/k/{site.token}x/frames")
    ask("none", "/frames", Host="evil.example")
    ask("none", "/frames", Origin="http://evil.example")
    ask("none", "/no/such/path/for/anybody")
    ask("none", "/frames/a", "POST")
    assert {status for _, _, status in counted} == {
        *("200", "303", "304", "400", "401", "403", "404", "405", "410", "413", "501")
    }

    reply = site.ask("/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples = read_samples(reply.text)
    found = {labels: value for (name, labels), value in samples.items() if name == "ndframes_requests_total"}
    assert found == {
        tuple(sorted({"endpoint": endpoint, "method": method, "status": status}.items())): count
        for (endpoint, method, status), count in counted.items()
    }
    totals = Counter()
    for (endpoint, _, _), count in counted.items():
        totals[endpoint] += count
    for endpoint, total in totals.items():
        assert samples[key_of("ndframes_sent_bytes_total", endpoint=endpoint)] == sent[endpoint], endpoint
        assert samples[key_of("ndframes_request_seconds_count", endpoint=endpoint)] == total
        assert samples[key_of("ndframes_request_seconds_bucket", endpoint=endpoint, le="+Inf")] == total
        buckets = [
            (float(dict(labels)["le"]), value)
            for (name, labels), value in samples.items()
            if name == "ndframes_request_seconds_bucket" and dict(labels)["endpoint"] == endpoint
        ]
        values = [value for _, value in sorted(buckets)]
        assert values == sorted(values)
        assert 0 < samples[key_of("ndframes_request_seconds_sum", endpoint=endpoint)] < 60 * total

    # The request for metrics itself is counted when it has ended.
    again = read_samples(site.ask("/metrics").text)
    assert again[key_of("ndframes_requests_total", endpoint="/metrics", method="GET", status="200")] == 1


def test_what_a_service_tells_of_itself(frames, serve_frames):
    site, _ = serve_frames(frames)
    before = read_samples(site.ask("/metrics").text)
    assert before[key_of("ndframes_cache_entries")] == before[key_of("ndframes_open_images")] == 0
    for name in ("a", "tiled"):
        assert site.ask(f"/frames/{name}/region").status == 200
    wait_until(lambda: read_samples(site.ask("/metrics").text)[key_of("ndframes_bytes_in_use")] == 0)
    samples = read_samples(site.ask("/metrics").text)
    assert samples[key_of("ndframes_cache_entries")] == 2
    assert samples[key_of("ndframes_cache_bytes")] == sum(entry.size_bytes for entry in frames.cache.ls())
    assert samples[key_of("ndframes_open_images")] == 2
    assert samples[key_of("ndframes_workers")] == 1
    for name in ("refused_total", "given_up_total", "left_total", "waiting_requests"):
        assert samples[key_of(f"ndframes_{name}")] == 0
    # Of this process, in which the service runs.
    assert (
        10e6
        < samples[key_of("ndframes_resident_memory_bytes")]
        < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    )
    assert 3 < samples[key_of("ndframes_open_descriptors")] < 10_000


def test_the_labels_are_bounded(frames, serve_frames):
    site, _ = serve_frames(frames)
    for number in range(50):
        site.ask(f"/frames/name-{number}/region?y={number}")
        site.ask(f"/paths/{number}")
        site.ask("/frames", "DELETE" if number % 2 else "PUT")
    series = [key for key in read_samples(site.ask("/metrics").text) if key[0] == "ndframes_requests_total"]
    assert [dict(labels) for _, labels in series] == [
        {"endpoint": "/frames/{name}/region", "method": "GET", "status": "404"},
        {"endpoint": "none", "method": "GET", "status": "404"},
        {"endpoint": "none", "method": "other", "status": "405"},
    ]


def test_the_token_is_needed(frames, serve_frames):
    site, _ = serve_frames(frames)
    assert site.ask("/metrics", has_token=False).status == 401
    assert site.ask(f"/k/{site.token}/metrics", has_token=False).status == 200


def make_exchange(status: int = 200, seconds: float = 0.5) -> Exchange:
    return Exchange("GET", "/", b"", None, 0.0, endpoint="/", status=status, sent_bytes=7, seconds=seconds)


def test_processes_add_up_and_one_that_replaces_another_goes_on():
    descriptor = os.memfd_create("counts")
    os.ftruncate(descriptor, Board.count_bytes(2))
    told = {"refused": 2, "given_up": 0, "left": 1, "waiting_requests": 3, "bytes_in_use": 10, "open_images": 4}
    first, second = (Metrics(["/"], lambda: told, Board(2, row, descriptor)) for row in (0, 1))
    for _ in range(3):
        first.count(make_exchange())
    second.count(make_exchange(404))
    second.publish()
    replacing = Metrics(["/"], lambda: told, Board(2, 1, descriptor))
    replacing.count(make_exchange(404))
    for each in (first, replacing):
        each.publish()
    os.close(descriptor)
    samples = read_samples(format_families(first.collect()))
    assert samples[key_of("ndframes_requests_total", endpoint="/", method="GET", status="200")] == 3
    assert samples[key_of("ndframes_requests_total", endpoint="/", method="GET", status="404")] == 2
    assert samples[key_of("ndframes_request_seconds_bucket", endpoint="/", le="0.25")] == 0
    assert samples[key_of("ndframes_request_seconds_bucket", endpoint="/", le="0.5")] == 5
    assert samples[key_of("ndframes_request_seconds_sum", endpoint="/")] == 2.5
    assert samples[key_of("ndframes_sent_bytes_total", endpoint="/")] == 35
    # Three processes were refused 2 requests each; two of them still wait for 3.
    assert samples[key_of("ndframes_refused_total")] == 6
    assert samples[key_of("ndframes_left_total")] == 3
    assert samples[key_of("ndframes_waiting_requests")] == 6
    assert samples[key_of("ndframes_workers")] == 2
    # What no system tells is left out.
    assert key_of("ndframes_resident_memory_bytes") not in samples


def test_a_strange_status_and_method_have_a_place():
    metrics = Metrics(["/"], lambda: dict.fromkeys(("refused", "given_up", "left"), 0), Board())
    metrics.count(make_exchange(418))
    metrics.count(Exchange("BREW", "/pot", b"", None, 0.0, status=200, seconds=1e9))
    samples = read_samples(format_families(metrics.collect()))
    assert samples[key_of("ndframes_requests_total", endpoint="/", method="GET", status="other")] == 1
    assert samples[key_of("ndframes_requests_total", endpoint="none", method="other", status="200")] == 1
    assert samples[key_of("ndframes_request_seconds_bucket", endpoint="none", le="60")] == 0
    assert samples[key_of("ndframes_request_seconds_bucket", endpoint="none", le="+Inf")] == 1


def test_labels_and_numbers_survive_the_text():
    label = 'a\\b"c\nd{e}=,\u20ac'
    values = [0.1, 1e300, 2.0**60, math.inf, -3.0]
    samples = [Sample(value, {"place": str(place), "label": label}) for place, value in enumerate(values)]
    found = read_samples(
        format_families([Family("numbers", "gauge", "Numbers.", samples), Family("none", "gauge", "-")])
    )
    assert found == {key_of("numbers", place=str(place), label=label): value for place, value in enumerate(values)}
