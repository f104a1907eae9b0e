"""Addresses of stores."""

from __future__ import annotations

import pytest

import ndframes as nf
from ndframes.cli.common import describe_error
from ndframes.errors import StoreError
from ndframes.system.objects.addresses import StoreAddress, is_url, parse_address
from ndframes.text import hide_secrets, without_secrets


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bucket", StoreAddress("s3", "bucket", "")),
        ("s3://bucket/", StoreAddress("s3", "bucket", "")),
        ("S3://bucket/a/b/", StoreAddress("s3", "bucket", "a/b")),
        ("s3a://bucket/a", StoreAddress("s3", "bucket", "a")),
        ("s3://bucket/a%20b#c?d", StoreAddress("s3", "bucket", "a%20b#c?d")),
        ("az://container/a", StoreAddress("az", "container", "a")),
        ("azure://container/a", StoreAddress("az", "container", "a")),
        ("abfs://container/a", StoreAddress("az", "container", "a")),
        ("abfss://container@acme.dfs.core.windows.net/a", StoreAddress("az", "container", "a", "acme")),
        ("gs://bucket/a", StoreAddress("gs", "bucket", "a")),
        ("gcs://bucket/a", StoreAddress("gs", "bucket", "a")),
        ("http://Host.example:8080/a%20b/c", StoreAddress("http", "host.example:8080", "a b/c")),
        ("https://host.example", StoreAddress("https", "host.example", "")),
        ("https://[::1]:8080/a", StoreAddress("https", "[::1]:8080", "a")),
        ("memory://name/a", StoreAddress("memory", "name", "a")),
    ],
)
def test_addresses_are_parsed(url, expected):
    assert is_url(url)
    address = parse_address(url)
    assert address == expected
    assert parse_address(address.url) == address
    assert parse_address(address.join("k/l").url) == address.join("k/l")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("/data/a", "is not the address of an object store; give s3://bucket/prefix"),
        ("ftp://host/a", "is not the address of an object store"),
        ("file:///data", "is not the address of an object store"),
        ("s3:///a", "has no bucket or host"),
        ("s3://", "has no bucket or host"),
        ("s3://a b/c", "has no bucket or host"),
        ("s3://bucket/a//b", "empty segment"),
        ("s3://bucket/../b", "empty segment, '.' or '..'"),
        ("http://host:port/a", "is not valid"),
        ("http://host/a?x=secret", r"'http://host/a\?\.\.\.' has a query"),
        ("http://host/a#b", "has a query or a fragment"),
        ("http://me:secret@host/a", "'http://...@host/a' contains credentials"),
        ("s3://key:secret@bucket/a", "contains credentials"),
        ("az://container@evil.example/a", "contains credentials"),
    ],
)
def test_other_addresses_are_errors_without_secrets(url, message):
    with pytest.raises(StoreError, match=message) as caught:
        parse_address(url)
    assert "secret" not in str(caught.value)


def test_keys_are_below_the_prefix():
    address = parse_address("s3://bucket/a/b")
    assert address.full_key("c/d") == "a/b/c/d"
    assert address.relative_key("a/b/c/d") == "c/d"
    bare = parse_address("s3://bucket")
    assert bare.full_key("c/d") == bare.relative_key("c/d") == "c/d"


@pytest.mark.parametrize("path", ["a", "/a/b", "C:\\a", "c://a", "", None, 3, b"s3://a", "a/s3://b"])
def test_paths_are_no_urls(path):
    assert not is_url(path)


def test_secrets_are_left_out():
    text = "PUT https://acme.blob.core.windows.net/c/k?comp=block&sig=abc%2Fdef%3D&se=2026 (http://u:p@h/)"
    assert without_secrets(text) == "PUT https://acme.blob.core.windows.net/c/k?comp=...&sig=...&se=... (http://...@h/)"


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:topsecret@bucket/x",
        "s3://bucket:topsecret@/a",
        "https://me:topsecret@host/a.tif",
        "https://me:topsecret@[::1]/a.tif",
        "https://me:pass/topsecret@host/a.tif",
        "https://me:pass topsecret@host/a.tif",
        "http://me:topsecret@host:99999/a",
        "HTTPS://ME:topsecret@host/a",
        "https://me:topsecret%40@host/a",
        "https://host/a.tif?topsecret",
        "https://host/a.tif?X-Amz-Signature=topsecret",
        "https://host/a.tif?sig=a&amp;b=topsecret",
        "https://host/a.tif?sig=a b\ntopsecret",
        "https://host/a.tif#topsecret",
        "az://tiles@acme:topsecret/a",
        "https://host:topsecret/a",
    ],
)
def test_no_error_tells_a_secret_of_an_address(url, tmp_path):
    """The address as a workdir, as a source, as an allowed source, and as the id of an image."""

    def read(image_id, **options):
        nf.SimpleFrames({image_id: url}, workdir=tmp_path, **options).load_image(image_id)

    for attempt in (
        lambda: nf.Cache(url),
        lambda: read("a"),
        lambda: read(url, sources=["https://host/"]),
        lambda: nf.SimpleFrames({}, workdir=tmp_path, sources=[url]),
    ):
        with pytest.raises(nf.NdframesError) as caught:
            attempt()
        error = caught.value
        while error is not None:
            assert "topsecret" not in str(error)
            error = error.__cause__
        assert "topsecret" not in describe_error(caught.value)
    assert "topsecret" not in hide_secrets(url)
