"""No address but those that ``sources=`` allows is ever connected to, whoever names it."""

from __future__ import annotations

import json
import shutil
import socket
import threading

import numpy as np
import pytest
import tifffile
from kit.static_files import StaticFiles, make_certificate

import ndframes as nf
from ndframes.errors import BackendError, NdframesError, PathInfoError, SourceAccessError, SourceError
from ndframes.system.objects import hosts


class Trap:
    """A listening socket that counts who connects."""

    def __init__(self):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.count = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.count += 1
            connection.close()

    def close(self):
        self._socket.close()


@pytest.fixture
def trap():
    found = Trap()
    yield found
    found.close()


@pytest.fixture
def site(tmp_path):
    """A server of which only the folder ``ok`` is allowed."""
    root = tmp_path / "site"
    for folder in ("ok", "ok-evil", "secret"):
        (root / folder).mkdir(parents=True)
        tifffile.imwrite(root / folder / "a.tif", np.full((8, 9), len(folder), np.uint8))
    with StaticFiles(root) as found:
        found.folder = root
        yield found


@pytest.fixture
def lookups(monkeypatch):
    """The hosts that this process looked up or connected to."""
    found = []
    look_up, connect = socket.getaddrinfo, socket.socket.connect
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *rest, **more: (found.append(host), look_up(host, *rest, **more))[1]
    )
    monkeypatch.setattr(socket.socket, "connect", lambda self, place: (found.append(place), connect(self, place))[1])
    return found


HOSTILE = [
    "http://127.0.0.1:{trap}/a.tif",
    "http://127.0.0.1:{trap}/ok/a.tif",
    "http://localhost:{trap}/a.tif",
    "http://[::ffff:127.0.0.1]:{trap}/a.tif",
    "http://2130706433:{trap}/a.tif",
    "http://0x7f000001:{trap}/a.tif",
    "http://0177.0.0.1:{trap}/a.tif",
    "http://127.1:{trap}/a.tif",
    "http://127.0.0.1:{trap}@127.0.0.1:{site}/ok/a.tif",
    "http://127.0.0.1:{site}@127.0.0.1:{trap}/ok/a.tif",
    "http://127.0.0.1:{site}\\@127.0.0.1:{trap}/ok/a.tif",
    "http://127.0.0.1:{site}#@127.0.0.1:{trap}/ok/a.tif",
    "http://127.0.0.1:{site}?@127.0.0.1:{trap}/ok/a.tif",
    "http://127.0.0.1:{site}/secret/a.tif",
    "http://127.0.0.1:{site}/ok-evil/a.tif",
    "http://127.0.0.1:{site}/ok/../secret/a.tif",
    "http://127.0.0.1:{site}/ok/%2e%2e/secret/a.tif",
    "http://127.0.0.1:{site}/ok/%2E%2E%2Fsecret%2Fa.tif",
    "http://127.0.0.1:{site}/ok/..\\secret\\a.tif",
    "http://127.0.0.1:{site}/ok//../secret/a.tif",
    "http://127.0.0.1:{site}/ok/a.tif?redirect=http://127.0.0.1:{trap}/",
    "http://127.0.0.1:{site}/ok/a.tif%0d%0aHost:%20evil",
    "https://127.0.0.1:{trap}/ok/a.tif",
    "https://127.0.0.1:{site}/ok/a.tif",
    "http://169.254.169.254/latest/meta-data/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "s3://127.0.0.1:{trap}/a.tif",
    "s3://imagery-evil/a.tif",
    "s3://imagery/../other/a.tif",
    "gs://127.0.0.1:{trap}/a.tif",
    "az://c@127.0.0.1:{trap}/a.tif",
    "ftp://127.0.0.1:{trap}/a.tif",
    "gopher://127.0.0.1:{trap}/a.tif",
    "rtsp://127.0.0.1:{trap}/a.mp4",
    "rtmp://127.0.0.1:{trap}/a.mp4",
    "tcp://127.0.0.1:{trap}",
    "file://127.0.0.1:{trap}/etc/passwd",
    "file:///etc/passwd",
    "data://image/png;base64,AAAA",
    "http://127.0.0.1:{trap}/a.mp4",
    "http://127.0.0.1:{trap}/a.gif",
    "http://127.0.0.1:{trap}/a.png",
    "/vsicurl/http://127.0.0.1:{trap}/a.tif",
    "/vsicurl_streaming/http://127.0.0.1:{trap}/a.tif",
    "/vsizip//vsicurl/http://127.0.0.1:{trap}/a.zip/a.tif",
    "/vsis3/imagery/a.tif",
    "/vsigs/imagery/a.tif",
    "/vsicurl?url=http%3A%2F%2F127.0.0.1%3A{trap}",
    "concat:http://127.0.0.1:{trap}/a.mp4",
    "subfile,,start,0,end,9,,:http://127.0.0.1:{trap}/a.mp4",
    "zip+http://127.0.0.1:{trap}/a.zip!a.tif",
    "GTIFF_DIR:1:http://127.0.0.1:{trap}/a.tif",
]


def fill(address, trap, site):
    return address.format(trap=trap.port, site=site.host.partition(":")[2])


def ways_in(address, sources, workdir):
    """Reads of an address in each way in."""
    options = {"sources": sources, "workdir": workdir}
    images = [{"id": 1, "file_name": address, "height": 8, "width": 9}]
    info = nf.ChannelInfo(address)
    for backend in (None, "auto", "npy"):
        yield lambda backend=backend: nf.SimpleFrames({"x": info}, backend=backend, **options).load_image("x")
        yield lambda backend=backend: nf.CocoFrames({"images": images}, backend=backend, **options).load_image(1)
    yield lambda: nf.open(address, **options)[:1]
    yield lambda: nf.SimpleFrames({"x": address}, **options).prepare(progress=False)
    yield lambda: nf.SimpleFrames({"x": address}, **options).load_regions([("x", np.s_[:1])])
    yield lambda: nf.SimpleFrames({"x": address}, **options).summarize("x")
    yield lambda: nf.SimpleFrames({"x": info}, hashid_mode="PIXELS", **options).load_image("x")
    yield lambda: nf.SimpleFrames({"x": nf.ChannelInfo(address, driver="GTiff")}, backend=None, **options).load_image(
        "x"
    )
    yield lambda: nf.PathInfo.from_files({"r": address}, align="georeference")


@pytest.mark.parametrize("address", HOSTILE)
def test_hostile_addresses_are_refused_before_anything_is_sent(trap, site, tmp_path, lookups, address):
    named = fill(address, trap, site)
    before = len(lookups)
    for read in ways_in(named, [f"{site.url}/ok/", "s3://imagery/"], tmp_path / "work"):
        with pytest.raises(NdframesError) as caught:
            read()
        assert isinstance(caught.value, (SourceError, PathInfoError, nf.errors.PrepareError)), caught.value
    assert lookups[before:] == []
    assert trap.count == 0
    assert site.requests == []


def test_a_dataset_file_widens_nothing(trap, site, tmp_path):
    images = [
        {
            "id": number,
            "file_name": fill(address, trap, site),
            "height": 8,
            "width": 9,
            "sources": [fill(address, trap, site)],
        }
        for number, address in enumerate(HOSTILE)
    ]
    images.append({"id": "good", "file_name": f"{site.url}/ok/a.tif", "height": 8, "width": 9})
    videos = [{"id": 1, "name": "v", "file_name": f"http://127.0.0.1:{trap.port}/v.mp4"}]
    path = tmp_path / "evil.kwcoco.json"
    path.write_text(
        json.dumps(
            {
                "images": images,
                "videos": videos,
                "sources": [f"http://127.0.0.1:{trap.port}/"],
                "annotations": [],
                "categories": [],
            }
        )
    )
    frames = nf.CocoFrames(path, sources=[f"{site.url}/ok"], workdir=tmp_path / "work")
    report = frames.prepare(errors="collect", progress=False)
    assert len(report.failed) == len(HOSTILE)
    with pytest.raises(SourceAccessError, match="v.mp4"):
        frames.load_image(("video", 1))
    assert frames.load_image("good").max() == len("ok")
    assert trap.count == 0
    assert {name for _, name, _ in site.requests} == {"/ok/a.tif"}


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:{trap}/ok/a.tif",
        "http://127.0.0.2:{site}/ok/a.tif",
        "http://localhost:{site}/ok/a.tif",
        "http://169.254.169.254/latest/meta-data/",
        "//127.0.0.1:{trap}/ok/a.tif",
        "https://127.0.0.1:{site}/ok/a.tif",
        "file:///etc/passwd",
        "/secret/a.tif",
        "../secret/a.tif",
        "/ok/../secret/a.tif",
        "/ok/%2e%2e/secret/a.tif",
        "/ok-evil/a.tif",
        "http://127.0.0.1:{site}@127.0.0.1:{trap}/ok/a.tif",
    ],
)
@pytest.mark.parametrize("backend", [None, "auto"])
def test_redirects_out_of_the_rules_are_not_followed(trap, site, tmp_path, target, backend):
    site.redirects["/ok/moved.tif"] = fill(target, trap, site)
    frames = nf.SimpleFrames(
        {"x": f"{site.url}/ok/moved.tif"}, sources=[f"{site.url}/ok"], workdir=tmp_path / "work", backend=backend
    )
    with pytest.raises(SourceError, match="image 'x': .*moved.tif cannot be read: .*redirect"):
        frames.load_image("x")
    assert trap.count == 0
    assert {path for _, path, _ in site.requests} == {"/ok/moved.tif"}


def test_redirects_within_the_rules_are_followed(site, tmp_path):
    site.redirects["/ok/moved.tif"] = "/ok/a.tif"
    opened = nf.open(f"{site.url}/ok/moved.tif", sources=[f"{site.url}/ok"], backend="auto", workdir=tmp_path / "work")
    assert opened[...].max() == len("ok")


def resolve_to(monkeypatch, *answers):
    """Have each look-up of a name give the next of these numbers, or several at once; the last one again and again."""
    look_up, calls = socket.getaddrinfo, []

    def answer(host, port, **options):
        calls.append(host)
        numbers = answers[min(len(calls), len(answers)) - 1]
        return [
            item
            for number in ([numbers] if isinstance(numbers, str) else numbers)
            for item in look_up(number, port, **options)
        ]

    monkeypatch.setattr(hosts.socket, "getaddrinfo", answer)
    return calls


@pytest.mark.parametrize(
    "numbers",
    ["127.0.0.1", "169.254.169.254", "10.0.0.1", "::1", "fd00::1", "::ffff:127.0.0.1", ["8.8.8.8", "127.0.0.1"]],
)
def test_a_name_that_leads_to_a_private_host_is_refused(monkeypatch, trap, tmp_path, numbers):
    resolve_to(monkeypatch, numbers)
    frames = nf.SimpleFrames(
        {"x": f"http://images.example:{trap.port}/a.tif"},
        sources=[f"http://images.example:{trap.port}/"],
        workdir=tmp_path,
    )
    with pytest.raises(
        SourceAccessError, match="image 'x': images.example has the number .* sources= does not name it"
    ):
        frames.load_image("x")
    assert trap.count == 0


def test_what_was_checked_is_what_is_connected_to(monkeypatch, site, trap, tmp_path):
    """A name that is resolved again to another number is not looked up again."""
    port = site.host.partition(":")[2]
    calls = resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2")
    named = f"http://images.example:{port}"
    opened = nf.open(f"{named}/ok/a.tif", sources=[f"{named}/ok/", "127.0.0.1/32"], workdir=tmp_path)
    assert opened[...].max() == len("ok")
    assert calls == ["images.example"]
    assert trap.count == 0


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes the certificate")
def test_an_encrypted_server_must_be_the_one_that_is_named(monkeypatch, tmp_path):
    certificate = make_certificate(tmp_path / "server.pem")  # of 127.0.0.1
    (tmp_path / "site").mkdir()
    tifffile.imwrite(tmp_path / "site" / "a.tif", np.full((8, 9), 5, np.uint8))
    with StaticFiles(tmp_path / "site", certificate) as site:
        with pytest.raises(SourceError, match=r"a\.tif cannot be read: .*certificate of the server is not valid"):
            nf.open(f"{site.url}/a.tif", sources=[site.url])
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_suffix(".crt")))
        assert nf.open(f"{site.url}/a.tif", sources=[site.url])[...].max() == 5
        resolve_to(monkeypatch, "127.0.0.1")
        named = site.url.replace("127.0.0.1", "images.example")
        with pytest.raises(SourceAccessError, match="sources= does not name it"):
            nf.open(f"{named}/a.tif", sources=[named])
        with pytest.raises(SourceError, match="certificate of the server is not valid"):
            nf.open(f"{named}/a.tif", sources=[named, "127.0.0.0/8"])


def test_without_sources_only_files_are_read(site, tmp_path):
    for backend in (None, "auto"):
        with pytest.raises(SourceAccessError, match=r"image 'x': .*pass sources=\['http://127.0.0.1:\d+/ok/'\] "):
            nf.SimpleFrames({"x": f"{site.url}/ok/a.tif"}, workdir=tmp_path, backend=backend).load_image("x")
    assert site.requests == []


def test_a_driver_does_not_reach_around_the_rules(site, tmp_path):
    path = f"/vsicurl/{site.url}/ok/a.tif"
    for backend in (None, "npy"):
        frames = nf.SimpleFrames(
            {"x": nf.ChannelInfo(path, driver="GTiff", hashid="a")},
            hashid_mode="GIVEN",
            sources=[site.url],
            workdir=tmp_path,
            backend=backend,
        )
        with pytest.raises(SourceAccessError, match="would be read over a network by GDAL"):
            frames.load_image("x")
    assert site.requests == []
    # By its address the driver reads a copy.
    info = nf.ChannelInfo(f"{site.url}/ok/a.tif", driver="GTiff")
    frames = nf.SimpleFrames({"x": info}, sources=[site.url], workdir=tmp_path)
    assert frames.load_image("x").max() == len("ok")
    (site.folder / "ok" / "a.vrt").write_text("<VRTDataset rasterXSize='3' rasterYSize='2'></VRTDataset>")
    site.requests.clear()
    for driver in ("VRT", "WMS", "HDF5", "vrt"):
        virtual = nf.ChannelInfo(f"{site.url}/ok/a.vrt", driver=driver)
        with pytest.raises(SourceAccessError, match="may name other files, so it is not used at an address"):
            nf.SimpleFrames({"x": virtual}, sources=[site.url], workdir=tmp_path).load_image("x")
    assert site.requests == []
    with pytest.raises(BackendError, match="cannot be read in parts"):
        nf.SimpleFrames({"x": info}, sources=[site.url], workdir=tmp_path, backend=None).load_image("x")
