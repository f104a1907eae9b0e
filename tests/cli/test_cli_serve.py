"""``ndframes serve``: a real process, real requests, and a real Ctrl-C."""

from __future__ import annotations

import json
import signal
import time

import numpy as np
import pytest
from kit.http_requests import Site
from kit.waiting import wait_until

import ndframes as nf


@pytest.fixture
def folder(tmp_path, gradient):
    (tmp_path / "scans").mkdir()
    for name in ("a", "b"):
        np.save(tmp_path / "scans" / f"{name}.npy", gradient)
    return tmp_path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_folder_until_a_signal(folder, spawn, gradient, number):
    process = spawn("serve", "scans")
    address = process.stdout.readline().strip()
    remote = nf.connect(address)
    assert list(remote.image_ids) == ["a", "b"]
    assert np.array_equal(remote.load_region("b", np.s_[3:9]), gradient[3:9])
    # A client that is in the middle of a request does not hold it up.
    client = Site(address).connect()
    client.sendall(b"GET /frames HTTP/1.1\r\n")
    began = time.monotonic()
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, "", "")
    assert time.monotonic() - began < 40
    client.close()
    with pytest.raises(nf.RemoteError):
        remote.load_region("a")


def test_json_and_the_given_values(folder, spawn, monkeypatch):
    monkeypatch.setenv("NDFRAMES_TOKEN", "a-token-of-this-test")
    process = spawn("serve", "scans/a.npy", "scans/b.npy", "--json", "--threads", "1", "--backend", "none")
    text = ""
    while not text.rstrip().endswith("}"):
        text += process.stdout.readline()
    told = json.loads(text)
    assert told["images"] == 2
    assert told["pid"] == process.pid
    assert told["address"].endswith("#token=a-token-of-this-test")
    assert Site(told["address"]).ask("/frames/b").json["shape"] == [37, 53, 3]
    assert not (folder / "work").exists()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0


def test_a_dataset(spawn, dataset):
    process = spawn("serve", dataset)
    remote = nf.connect(process.stdout.readline().strip())
    assert list(remote.image_ids) == [1, 2]
    assert remote[1].shape[2] >= 3
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0


def test_ctrl_c_while_an_image_is_converted(folder, spawn):
    np.save(folder / "big.npy", np.random.default_rng(0).integers(0, 1 << 14, (6000, 6000, 3), np.uint16))
    process = spawn("serve", "big.npy")
    site = Site(process.stdout.readline().strip())
    client = site.connect("/frames/big/region?y=0:9")
    wait_until(lambda: site.ask("/health").json["waiting"] or list((folder / "work").rglob("*.tif")))
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    client.close()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing.tif"], "nothing.tif does not exist"),
        (["scans", "--port", "70000"], "70000"),
        (["scans", "--token", "short"], "the token is not allowed"),
        (["scans", "--host", "no-such-name.invalid"], "cannot listen"),
        (["scans", "--allow-host", "http://x"], "is not the name of a host"),
        (["a.json", "scans"], "is served alone"),
        (["a.json"], "does not exist"),
        ([], "PATH"),
    ],
)
def test_arguments_that_are_wrong(folder, run, arguments, says):
    result = run("serve", *arguments)
    assert result.exit_code == 2
    assert says in result.output
