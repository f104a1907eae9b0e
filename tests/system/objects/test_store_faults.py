"""Stores behind a network that does whatever networks do."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from kit.faulty_proxy import FaultyProxy
from kit.forking import in_fork
from kit.object_servers import find_ports

from ndframes.errors import ObjectGoneError, StoreAccessError, StoreError, StoreUnavailableError
from ndframes.system.objects.connection import connect_store
from ndframes.system.objects.requests import WriteCondition
from ndframes.system.objects.retries import Limits
from ndframes.system.objects.store import Place

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
#: As patient as a test can be.
QUICK = Limits(
    connect_seconds=2.0, idle_seconds=1.0, write_seconds=2.0, total_seconds=8.0, first_wait_seconds=0.005,
    longest_wait_seconds=0.1, log_seconds=0.5,
)  # fmt: skip
_DATA = np.random.default_rng(5).bytes(400_000)


@pytest.fixture
def proxy(object_server, bucket, monkeypatch):
    with FaultyProxy(object_server.host) as proxy:
        object_server.use(monkeypatch, proxy.endpoint)
        yield proxy


@pytest.fixture
def store(proxy, bucket):
    store = connect_store(bucket, limits=QUICK)
    store.create("data", _DATA)
    return store


def read_all(store, count=100, length=3000, **options):
    places = [Place(index * (length + 1), length) for index in range(count)]
    return b"".join(bytes(wait()) for wait in store.begin_fetch("data", places, **options)) == b"".join(
        _DATA[place.offset : place.offset + length] for place in places
    )


def test_neighbours_are_one_request_with_the_state(proxy, store):
    etag = store.load("data").status.etag
    proxy.forget()
    places = [Place(100, 50), Place(150, 50), Place(0, 100), Place(201, 9)]
    for wait, place in zip(store.begin_fetch("data", places, etag=etag), places, strict=True):
        assert bytes(wait()) == _DATA[place.offset : place.offset + place.length]
    assert sorted(request.span for request in proxy.requests) == [(0, 200), (201, 210)]
    assert {request.headers["if-match"] for request in proxy.requests} == {etag}


def test_requests_are_in_flight_at_the_same_time(proxy, store):
    proxy.latency_seconds = 0.1
    together = threading.Barrier(64, timeout=60)
    proxy.hook = lambda _: together.wait()
    # If fewer than 64 were in flight, the barrier would break; more than 64 would break it for the last one.
    assert read_all(store, 128)


@pytest.mark.parametrize("fault", ["503", "429", "reset_before", "reset_after", "cut", "stall"])
def test_a_request_that_fails_is_tried_again(proxy, store, fault):
    proxy.fail(fault, method="GET", times=3)
    assert store.load("data").data == _DATA
    assert len([request for request in proxy.requests if request.method == "GET"]) == 4


@pytest.mark.parametrize("fault", ["503", "429", "reset_before", "reset_after", "cut"])
def test_a_fifth_of_all_requests_may_fail(proxy, store, fault):
    proxy.fail(fault, chance=0.2)
    assert read_all(store)


@pytest.mark.parametrize("fault", ["503", "reset_before", "reset_after"])
def test_writing_is_tried_again(proxy, store, tmp_path, fault):
    source = tmp_path / "source"
    source.write_bytes(np.random.default_rng(0).bytes((16 << 20) + 100))
    for method in ("PUT", "POST"):
        proxy.fail(fault, method=method, times=1)
    status = store.upload("big", str(source))
    assert status.size_bytes == (16 << 20) + 100
    proxy.fail(fault, method="PUT", times=2)
    assert store.upload("small", __file__).size_bytes
    proxy.fail(fault, times=2)
    store.delete(["small"])
    assert store.load("small") is None
    store.download("big", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()


def test_one_of_many_creates_an_object(proxy, store):
    # Some of them are told to try again, which is not the same as that the object exists.
    proxy.fail("409", method="PUT", chance=0.2)
    start = threading.Barrier(8, timeout=60)
    created = [[] for _ in range(8)]

    def create(number):
        for key in range(10):
            start.wait()
            if store.create(f"key{key}", str(number).encode()) is not None:
                created[number].append(key)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(key for keys in created for key in keys) == list(range(10))
    for number, keys in enumerate(created):
        assert all(store.load(f"key{key}").data == str(number).encode() for key in keys)


def test_a_store_may_ignore_the_condition(proxy, store):
    assert store.create("a", b"1")
    proxy.drops_conditions = True
    assert store.create("a", b"2")
    assert store.load("a").data == b"2"


def test_a_lost_reply_to_create_finds_the_object(proxy, store):
    proxy.fail("reset_after", method="PUT", times=1)
    assert store.create("mine", b"mine") is None
    assert store.load("mine").data == b"mine"


def test_a_lost_reply_to_replace_is_recognised(proxy, store):
    first = store.create("mine", b"first")
    proxy.fail("reset_after", method="PUT", times=1)
    second = store.replace("mine", b"second", first)
    assert second == store.load("mine").status.etag
    proxy.fail("reset_before", method="PUT", times=1)
    assert store.replace("mine", b"third", first) is None
    proxy.fail("reset_after", method="PUT", times=1)
    assert store.replace("missing", b"third", first) is None


def test_a_listing_goes_on_where_it_failed(proxy, store):
    keys = ["data", *(f"k{number:04}" for number in range(2100))]
    for key in keys[1:]:
        store.requests.write(key, b"", WriteCondition("always"))
    proxy.forget()
    proxy.fail("503", method="GET", chance=0.4)
    assert [status.key for status in store.scan("")] == keys
    assert len([request for request in proxy.requests if "list-type" in request.query]) >= 3


def test_a_slow_body_is_not_cut_off(proxy, store, tmp_path):
    proxy.slow_seconds = 1.5 * QUICK.idle_seconds
    proxy.fail("slow", times=2)
    proxy.forget()
    assert store.load("data").data == _DATA
    store.download("data", str(tmp_path / "data"))
    assert (tmp_path / "data").read_bytes() == _DATA
    assert len([request for request in proxy.requests if request.method == "GET"]) == 2


def test_a_flipped_byte_in_an_upload_is_noticed(proxy, store, tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.write_bytes(b"x" * 100)
    store.upload("a", str(source))
    # The store has other bytes than those that were sent, and says so by its ETag.
    write = type(store.requests).write
    monkeypatch.setattr(
        type(store.requests), "write", lambda self, key, data, condition: write(self, key, b"y" + data[1:], condition)
    )
    with pytest.raises(StoreError, match="'a' is not what was uploaded"):
        store.upload("a", str(source))


def test_a_server_that_ignores_ranges_is_named(proxy, store, tmp_path):
    proxy.fail("ignore_range")
    with pytest.raises(StoreError, match="'data'.*does not support range requests"):
        store.begin_fetch("data", [Place(5, 10)])[0]()


def test_a_redirect_of_a_store_gets_no_signature(proxy, store, bucket, monkeypatch):
    # obstore follows redirects, which cannot be switched off. The endpoint is one that the user named, so it is trusted so far.
    with FaultyProxy(proxy._upstream) as elsewhere:
        proxy.redirect_to = f"{elsewhere.endpoint}/{bucket.removeprefix('s3://')}/data"
        proxy.fail("redirect")
        with pytest.raises(StoreAccessError):
            store.load("data")
        assert elsewhere.requests
        assert not any("authorization" in request.headers for request in elsewhere.requests)


def test_a_redirect_without_an_address_is_an_error_at_once(proxy, store):
    # So answers S3 for a bucket of another region.
    proxy.redirect_to = ""
    proxy.fail("redirect")
    proxy.forget()
    with pytest.raises(StoreError, match=r"the region \(AWS_REGION\)"):
        store.load("data")
    assert len(proxy.requests) == 1


def test_credentials_that_are_refused_are_named(proxy, store, bucket, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    other = connect_store(bucket, limits=QUICK)
    calls = [
        lambda: other.load("data"),
        lambda: other.create("new", b""),
        lambda: other.status(["data"]),
        lambda: list(other.scan("")),
        lambda: other.delete(["data"]),
        other.begin_fetch("data", [Place(0, 1)])[0],
    ]
    for call in calls:
        with pytest.raises(StoreAccessError, match=r"the keys of the environment \(AWS_ACCESS_KEY_ID\)") as caught:
            call()
        assert bucket in str(caught.value)
        assert isinstance(caught.value, PermissionError)
    assert store.load("data").data == _DATA


def test_a_store_that_is_down_is_an_error(bucket, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{find_ports(1)[0]}")
    store = connect_store(bucket, limits=QUICK)
    with pytest.raises(
        StoreUnavailableError, match="cannot read 'a': the store refuses the connection, in 11 tries"
    ) as caught:
        store.load("a")
    assert isinstance(caught.value, ConnectionError)
    with pytest.raises(StoreUnavailableError, match="refuses the connection"):
        store.upload("a", __file__)
    (tmp_path / "middle").write_bytes(bytes(2 << 20))
    with pytest.raises(StoreUnavailableError, match="in 11 tries"):
        store.upload("a", str(tmp_path / "middle"))
    (tmp_path / "big").write_bytes(bytes(9 << 20))
    with pytest.raises(StoreUnavailableError, match="in 11 tries"):
        store.upload("a", str(tmp_path / "big"))


@pytest.mark.parametrize("call", ["load", "create", "status", "scan", "delete", "upload"])
def test_a_mute_store_is_an_error(proxy, store, tmp_path, call):
    limits = Limits(idle_seconds=0.2, write_seconds=0.2, total_seconds=0.3)
    (tmp_path / "big").write_bytes(b"1" * (9 << 20))
    mute = connect_store(store.url, limits=limits)
    proxy.fail("mute")
    calls = {
        "load": lambda: mute.load("data"),
        "create": lambda: mute.create("new", b""),
        "status": lambda: mute.status(["data"]),
        "scan": lambda: list(mute.scan("")),
        "delete": lambda: mute.delete(["data"]),
        "upload": lambda: mute.upload("big", str(tmp_path / "big")),
    }
    with pytest.raises(StoreUnavailableError, match="the store does not answer"):
        calls[call]()


@pytest.mark.slow
def test_the_real_limits(proxy, bucket, monkeypatch, tmp_path):
    (tmp_path / "big").write_bytes(b"1" * (9 << 20))
    proxy.fail("mute")
    mute = connect_store(bucket)
    for call in (lambda: mute.load("data"), lambda: mute.upload("big", str(tmp_path / "big"))):
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            call()
        assert time.monotonic() - started < 90
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{find_ports(1)[0]}")
    down = connect_store(bucket)
    (tmp_path / "middle").write_bytes(b"1" * (2 << 20))
    calls = (
        lambda: down.load("data"),
        lambda: down.upload("middle", str(tmp_path / "middle")),
        lambda: down.upload("big", str(tmp_path / "big")),
    )
    for call in calls:
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            call()
        assert time.monotonic() - started < 30


def test_a_long_wait_is_logged_once(proxy, bucket, caplog):
    store = connect_store(bucket, limits=QUICK._replace(log_seconds=0.05))
    store.create("data", _DATA)
    proxy.fail("503", method="GET")
    with caplog.at_level(logging.WARNING, "ndframes"), pytest.raises(StoreUnavailableError, match="503 SlowDown"):
        read_all(store, 30)
    assert len(caplog.records) == 1
    assert store.url in caplog.text
    assert "still trying to read 'data'" in caplog.text
    assert "503 SlowDown" in caplog.text


def test_a_process_ends_while_requests_are_in_flight(proxy, store):
    code = f"""
from ndframes.system.objects.connection import connect_store
from ndframes.system.objects.retries import Limits
from ndframes.system.objects.store import Place
store = connect_store({store.url!r}, limits=Limits(idle_seconds=1.0))
store.begin_fetch("data", [Place(2 * i, 1) for i in range(100)])
"""
    proxy.fail("mute", method="GET")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_forked_child_has_the_same_errors(proxy, store):
    # The proxy is in this process, so its rules are set before the fork.
    proxy.fail("503", method="GET", times=3)
    in_fork(lambda: read_all(store, 5))

    def check_missing():
        with pytest.raises(ObjectGoneError, match="'missing'.*no such object"):
            store.begin_fetch("missing", [Place(0, 1)])[0]()
        return True

    in_fork(check_missing)
    proxy.fail("503", method="GET")

    def check_unavailable():
        with pytest.raises(StoreUnavailableError, match="503 SlowDown.*in 11 tries"):
            store.load("data")
        return True

    in_fork(check_unavailable)


def test_ctrl_c_ends_a_wait(proxy, store):
    """And the process: it does not wait until the request is given up, which is a minute here."""
    code = f"""
import signal, sys
from ndframes.system.objects.connection import connect_store
from ndframes.system.objects.retries import Limits
store = connect_store({store.url!r}, limits=Limits(idle_seconds=60.0))
print("begin", flush=True)
try:
    store.load("data")
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    proxy.fail("mute", method="GET")
    came = threading.Event()
    proxy.hook = lambda _: came.set()
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begin\n"
        assert came.wait(60)
        process.send_signal(2)
        assert process.stdout.readline() == "interrupted\n"
        assert process.wait(12) == 0
