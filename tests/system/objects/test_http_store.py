"""Files behind a plain HTTP server."""

from __future__ import annotations

import os
import pickle
import shutil

import numpy as np
import pytest
from kit.faulty_proxy import FaultyProxy
from kit.forking import in_fork
from kit.static_files import StaticFiles, make_certificate

from ndframes.errors import ObjectGoneError, StoreAccessError, StoreError, StoreUnavailableError
from ndframes.system.objects.connection import connect_store
from ndframes.system.objects.retries import Limits
from ndframes.system.objects.store import Place

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

_DATA = np.random.default_rng(11).bytes((16 << 20) + 1000)
_QUICK = Limits(idle_seconds=1.0, total_seconds=8.0, first_wait_seconds=0.005, longest_wait_seconds=0.1)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "files"
    (folder / "a b").mkdir(parents=True)
    (folder / "a b" / "ü%20#?.bin").write_bytes(_DATA)
    (folder / "small").write_bytes(b"0123456789")
    (folder / "empty").write_bytes(b"")
    return folder


@pytest.fixture
def server(folder):
    with StaticFiles(folder) as server:
        yield server


@pytest.fixture
def store(server):
    return connect_store(server.url, limits=_QUICK)


@pytest.fixture
def proxy(server):
    with FaultyProxy(server.host) as proxy:
        yield proxy


def test_files_are_read(store, server, tmp_path):
    key = "a b/ü%20#?.bin"
    assert store.load("small").data == b"0123456789"
    assert store.load("empty").data == b""
    assert store.load("missing") is None
    status, missing = store.status([key, "missing"])
    assert status.size_bytes == len(_DATA)
    assert missing is None
    assert status.modified == int(os.path.getmtime(tmp_path / "files" / key))
    places = [Place(5, 100), Place(105, 7), Place(len(_DATA) - 3, 10), Place(len(_DATA) + 5, 1)]
    found = [bytes(wait()) for wait in store.begin_fetch(key, places, etag=status.etag)]
    assert found == [_DATA[place.offset : place.offset + place.length] for place in places]
    assert store.download(key, str(tmp_path / "copy"), etag=status.etag) == status
    assert (tmp_path / "copy").read_bytes() == _DATA
    store.download("empty", str(tmp_path / "nothing"))
    assert (tmp_path / "nothing").read_bytes() == b""


def test_an_address_may_have_a_path(server):
    store = connect_store(f"{server.url}/a%20b/", limits=_QUICK)
    assert store.url == f"{server.url}/a%20b"
    assert store.status(["ü%20#?.bin"])[0].size_bytes == len(_DATA)


@pytest.mark.parametrize("key", ["../small", "a b/../small", "", "/small"])
def test_no_key_leads_out_of_the_address(server, key):
    store = connect_store(f"{server.url}/a%20b", limits=_QUICK)
    with pytest.raises(StoreError, match="is not valid"):
        store.load(key)
    assert store.load("%2e%2e/small") is None
    assert [path for _, path, _ in server.requests] == ["/a%20b/%252e%252e/small"]


def test_connections_are_used_again(store, proxy):
    store = connect_store(proxy.endpoint, limits=_QUICK)
    for _ in range(5):
        assert store.load("small").data == b"0123456789"
    assert len(proxy._clients) == 1


def test_nothing_is_written_or_listed(store):
    calls = [
        lambda: store.create("a", b""),
        lambda: store.replace("small", b"", "x"),
        lambda: store.delete(["small"]),
        lambda: store.upload("a", __file__),
    ]
    for call in calls:
        with pytest.raises(StoreAccessError, match="read-only"):
            call()
    with pytest.raises(StoreError, match="does not list its files"):
        list(store.scan(""))


def test_another_state_is_an_error(store, folder, tmp_path):
    etag = store.load("small").status.etag
    (folder / "small").write_bytes(b"9876543210")
    with pytest.raises(ObjectGoneError, match="another state"):
        store.begin_fetch("small", [Place(0, 3)], etag=etag)[0]()
    with pytest.raises(ObjectGoneError):
        store.download("small", str(tmp_path / "copy"), etag=etag)


def test_a_weak_state_is_compared_here(store, server, folder):
    server.weak_etags = True
    etag = store.load("small").status.etag
    assert etag.startswith("W/")
    assert bytes(store.begin_fetch("small", [Place(0, 3)], etag=etag)[0]()) == b"012"
    (folder / "small").write_bytes(b"9876543210")
    with pytest.raises(ObjectGoneError, match="another state"):
        store.begin_fetch("small", [Place(0, 3)], etag=etag)[0]()


def test_a_file_that_changes_during_its_download_is_an_error(store, server, folder, tmp_path):
    server.has_etags = False
    count = []

    def change(path):
        count.append(path)
        if len(count) == 3:
            (folder / "a b" / "ü%20#?.bin").write_bytes(_DATA[:-1])

    server.hook = change
    with pytest.raises(ObjectGoneError, match="changed"):
        store.download("a b/ü%20#?.bin", str(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()


def test_a_server_without_ranges_or_states(store, server):
    server.has_etags = server.has_times = False
    assert store.load("small").status == ("small", 10, 0.0, None, None)
    server.has_ranges = False
    with pytest.raises(StoreError, match="does not support range requests"):
        store.begin_fetch("small", [Place(2, 3)])[0]()
    assert bytes(store.begin_fetch("small", [Place(0, 10)])[0]()) == b"0123456789"


def test_a_server_may_not_send_less_than_there_is(store, server):
    server.most_bytes = 3
    assert bytes(store.begin_fetch("small", [Place(7, 10)])[0]()) == b"789"
    with pytest.raises(StoreUnavailableError, match="answered with 3 bytes instead of 4"):
        store.begin_fetch("small", [Place(2, 4)])[0]()


def test_redirects_elsewhere_are_refused(store, server, folder):
    with StaticFiles(folder) as elsewhere:
        server.redirects["/small"] = f"{elsewhere.url}/small?token=secret"
        for call in (lambda: store.load("small"), lambda: store.status(["small"])):
            with pytest.raises(StoreError, match=f"redirects to {elsewhere.url},") as caught:
                call()
            assert "secret" not in str(caught.value)
        assert elsewhere.requests == []


def test_redirects_on_the_same_server_are_followed(store, server):
    server.redirects["/one"] = "/two"
    server.redirects["/two"] = f"{server.url}/small"
    assert store.load("one").data == b"0123456789"
    assert bytes(store.begin_fetch("one", [Place(3, 2)])[0]()) == b"34"
    server.redirects["/round"] = "/round"
    with pytest.raises(StoreError, match="redirects again and again"):
        store.load("round")


def test_addresses_that_are_not_public_may_be_refused(server):
    port = server.host.partition(":")[2]
    for host in ("127.0.0.1", "localhost"):
        store = pickle.loads(pickle.dumps(connect_store(f"http://{host}:{port}", allow_private=False)))
        with pytest.raises(StoreAccessError, match="127.0.0.1, which is not public"):
            store.load("small")
        assert connect_store(f"http://{host}:{port}").load("small").data == b"0123456789"
    assert len(server.requests) == 2


class Headers:
    """A function that returns headers; it pickles."""

    def __init__(self, value):
        self.value = value

    def __call__(self):
        return {"Authorization": self.value}


def fail():
    raise RuntimeError("secret")


def test_credentials_are_headers(server):
    server.needed_header = ("Authorization", "Bearer good")
    with pytest.raises(StoreAccessError, match="401.*it was accessed with no credentials"):
        connect_store(server.url).load("small")
    assert connect_store(server.url, credentials=Headers("Bearer good")).load("small").data == b"0123456789"
    with pytest.raises(StoreAccessError, match="those that Headers returns") as caught:
        connect_store(server.url, credentials=Headers("Bearer bad")).load("small")
    assert "Bearer" not in str(caught.value)
    with pytest.raises(StoreAccessError, match="those that fail returns, but it raised RuntimeError") as caught:
        connect_store(server.url, credentials=fail).load("small")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("fault", ["503", "429", "reset_before", "reset_after", "cut", "stall"])
def test_a_request_that_fails_is_tried_again(proxy, fault, tmp_path):
    store = connect_store(proxy.endpoint, limits=_QUICK)
    proxy.fail(fault, times=2)
    store.download("a b/ü%20#?.bin", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == _DATA


def test_a_fifth_of_all_requests_may_fail(proxy):
    store = connect_store(proxy.endpoint, limits=_QUICK)
    for fault in ("503", "reset_before", "cut"):
        proxy.fail(fault, chance=0.08)
    places = [Place(index * 10_000, 5000) for index in range(200)]
    fetches = store.begin_fetch("a b/ü%20#?.bin", places)
    assert all(bytes(wait()) == _DATA[place.offset :][:5000] for wait, place in zip(fetches, places, strict=True))


def test_a_slow_body_is_not_cut_off(proxy):
    store = connect_store(proxy.endpoint, limits=_QUICK)
    proxy.fail("slow")
    assert store.load("small").data == b"0123456789"
    assert len(proxy.requests) == 1


def test_a_server_that_is_down_or_mute_is_an_error(proxy):
    store = connect_store(proxy.endpoint, limits=_QUICK._replace(idle_seconds=0.2, total_seconds=0.3))
    proxy.fail("mute")
    with pytest.raises(StoreUnavailableError, match="the store does not answer"):
        store.load("small")
    proxy.close()
    with pytest.raises(StoreUnavailableError, match="the store refuses the connection"):
        connect_store(proxy.endpoint, limits=_QUICK).load("small")


def test_children_read_while_the_parent_reads(store):
    places = [Place(index * 10_000, 5000) for index in range(50)]
    for _ in range(5):
        fetches = store.begin_fetch("a b/ü%20#?.bin", places)

        def check():
            return all(
                bytes(wait()) == _DATA[place.offset :][:5000]
                for wait, place in zip(store.begin_fetch("a b/ü%20#?.bin", places), places, strict=True)
            )

        in_fork(check)
        assert all(bytes(wait()) == _DATA[place.offset :][:5000] for wait, place in zip(fetches, places, strict=True))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes the certificate")
def test_certificates_are_checked(folder, tmp_path, monkeypatch):
    certificate = make_certificate(tmp_path / "server.pem")
    with StaticFiles(folder, certificate) as server:
        assert server.url.startswith("https://")
        with pytest.raises(StoreError, match="certificate of the server is not valid"):
            connect_store(server.url, limits=_QUICK).load("small")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_suffix(".crt")))
        assert connect_store(server.url, limits=_QUICK).load("small").data == b"0123456789"
    with StaticFiles(folder) as server, pytest.raises(StoreError, match="no TLS connection.*is it http://?"):
        connect_store(server.url.replace("http:", "https:"), limits=_QUICK).load("small")


def test_a_proxy_of_the_environment_is_used(server, monkeypatch):
    for name in ("http_proxy", "no_proxy", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    # The server takes requests with whole addresses, as a proxy does.
    monkeypatch.setenv("http_proxy", server.url.replace("http://", "http://me:secret@"))
    store = connect_store("http://files.example.invalid/a%20b", limits=_QUICK)
    assert store.status(["ü%20#?.bin"])[0].size_bytes == len(_DATA)
    _, path, headers = server.requests[0]
    assert path.startswith("http://files.example.invalid/a%20b/")
    assert headers["host"] == "files.example.invalid"
    assert headers["proxy-authorization"] == "Basic bWU6c2VjcmV0"
