"""Which addresses may be read: compared in their only form, by whole segments, and nothing is sent for any other."""

from __future__ import annotations

import ipaddress
import pickle

import pytest

from ndframes.errors import SourceAccessError, SourceError
from ndframes.system.objects.rules import SourceRules, is_network_path

_SOURCES = [
    "s3://imagery/2024",
    "https://host.example/maps/",
    "http://[::1]:8080/",
    "abfss://tiles@acme.dfs.core.windows.net/",
]


@pytest.fixture
def rules():
    return SourceRules.of(_SOURCES)


@pytest.mark.parametrize(
    ("url", "found"),
    {
        "s3://imagery/2024/a.tif": "s3://imagery/2024/a.tif",
        "S3://imagery/2024/a b?x=1#y%2e.tif": "s3://imagery/2024/a b?x=1#y%2e.tif",
        "s3a://imagery/2024": "s3://imagery/2024",
        "https://host.example/maps/a.tif": "https://host.example/maps/a.tif",
        "HTTPS://HOST.example:443/maps/a.tif": "https://host.example/maps/a.tif",
        "https://host.example:0443/maps/%61.tif": "https://host.example/maps/a.tif",
        "https://host.example/maps/a%20b%252e.tif": "https://host.example/maps/a%20b%252e.tif",
        "https://host.example/maps/a.tif/": "https://host.example/maps/a.tif",
        "http://[0:0::1]:8080/a.tif": "http://[::1]:8080/a.tif",
        "abfss://tiles@acme.dfs.core.windows.net/a.tif": "abfss://tiles@acme.dfs.core.windows.net/a.tif",
    }.items(),
)
def test_an_address_is_allowed_in_each_of_its_forms(rules, url, found):
    assert rules.check(url).url == found
    assert pickle.loads(pickle.dumps(rules)).check(url).url == found


REFUSED = [
    # other buckets, hosts, ports, accounts, schemes
    "s3://imagery-evil/2024/a.tif",
    "s3://Imagery/2024/a.tif",
    "s3://imagery.evil/2024/a.tif",
    "s3://imagery/2023/a.tif",
    "s3://imagery/20245/a.tif",
    "s3://imagery/2024.evil/a.tif",
    "s3://imagery:443/2024/a.tif",
    "s3://imagery@evil/2024/a.tif",
    "gs://imagery/2024/a.tif",
    "http://host.example/maps/a.tif",
    "https://host.example:8443/maps/a.tif",
    "https://host.example.evil/maps/a.tif",
    "https://evil.host.example/maps/a.tif",
    "https://host.example./maps/a.tif",
    "https://hostexample/maps/a.tif",
    "abfss://tiles@evil.dfs.core.windows.net/a.tif",
    "abfss://tiles@acme.dfs.core.windows.net.evil/a.tif",
    "az://tiles/a.tif",
    "file:///etc/passwd",
    "file://host.example/maps/a.tif",
    "ftp://host.example/maps/a.tif",
    "gopher://host.example/maps/a.tif",
    "data://host.example/maps/a.tif",
    "jar:https://host.example/maps/a.tif",
    # out of the folder
    "s3://imagery/2024/../2023/a.tif",
    "s3://imagery/2024/./a.tif",
    "s3://imagery//2024/a.tif",
    "https://host.example/maps/../a.tif",
    "https://host.example/maps/%2e%2e/a.tif",
    "https://host.example/maps/%2E./a.tif",
    "https://host.example/maps/..%2fa.tif",
    "https://host.example/maps%2f..%2fa.tif",
    "https://host.example/maps//a.tif",
    "https://host.example/maps/..\\a.tif",
    "https://host.example/maps/%5c..%5ca.tif",
    "https://host.example/Maps/a.tif",
    "https://host.example/mapsx/a.tif",
    "https://host.example/",
    "https://host.example",
    # users, queries, characters that some programs drop
    "https://host.example@evil/maps/a.tif",
    "https://me:pw@host.example/maps/a.tif",
    "https://evil#@host.example/maps/a.tif",
    "https://evil\\@host.example/maps/a.tif",
    "https://host.example\\@evil/maps/a.tif",
    "https://host.example/maps/a.tif?url=http://evil",
    "https://host.example/maps/a.tif#x",
    "https://host.example/maps/a%00.tif",
    "https://host.example/maps/a\n.tif",
    "https://host.example/maps/a%0d%0aHost: evil.tif",
    "https://host.example\t.evil/maps/a.tif",
    "https:// host.example/maps/a.tif",
    "https:///host.example/maps/a.tif",
    # numbers in forms that programs read differently
    "http://[::1%25eth0]:8080/a.tif",
    "http://[::ffff:127.0.0.1]:8080/a.tif",
    "http://[::1]/a.tif",
    "http://[::1]:99999/a.tif",
    "http://127.1:8080/a.tif",
    "http://2130706433:8080/a.tif",
    "http://0x7f000001:8080/a.tif",
    "http://0177.0.0.1:8080/a.tif",
    "http://127.0.0.1.:8080/a.tif",
    "http://①②⑦.0.0.1:8080/a.tif",
    "https://ｈost.example/maps/a.tif",
    "https://host。example/maps/a.tif",
]


@pytest.mark.parametrize("url", REFUSED)
def test_any_other_address_is_refused(rules, url):
    with pytest.raises(SourceAccessError) as caught:
        rules.check(url)
    assert "pw" not in str(caught.value)


def test_the_error_says_what_would_allow_it(rules):
    with pytest.raises(
        SourceAccessError, match=r"s3://other/x/a\.tif is not under an address of sources=\[.*add 's3://other/x/' if"
    ):
        rules.check("s3://other/x/a.tif")
    with pytest.raises(
        SourceAccessError, match=r"pass sources=\['s3://other/x/'\] \(--sources on the command line\) if you"
    ):
        SourceRules().check("s3://other/x/a.tif")
    assert SourceRules.of("s3://other/x/").check("s3://other/x/a.tif").prefix == "x/a.tif"


@pytest.mark.parametrize(
    "sources",
    [
        ["/data"],
        ["imagery"],
        ["https://me:pw@host/"],
        ["ftp://host/"],
        ["http://0x7f.1/"],
        ["s3://a/../b"],
        ["s3://"],
        [3],
        3,
        [None],
        ["*"],
    ],
)
def test_sources_must_be_addresses_or_networks(sources):
    with pytest.raises(SourceError, match="sources= holds"):
        SourceRules.of(sources)


_PRIVATE = [
    "127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
    "224.0.0.1", "255.255.255.255", "240.0.0.1", "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1",
    "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2002:a00:1::1", "::127.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize("number", _PRIVATE)
def test_a_name_must_not_lead_to_a_private_host(number):
    address = ipaddress.ip_address(number)
    assert not SourceRules.of("https://host.example/").may_connect("host.example", address)
    assert not SourceRules.of("https://host.example/").may_connect("localhost.example", address)


@pytest.mark.parametrize("number", ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_a_name_may_lead_to_a_public_host(number):
    assert SourceRules().may_connect("host.example", ipaddress.ip_address(number))


def test_private_hosts_are_reached_by_their_own_number_or_network():
    named = SourceRules.of("http://10.0.0.3/")
    assert named.may_connect("10.0.0.3", ipaddress.ip_address("10.0.0.3"))
    assert not named.may_connect("10.0.0.3", ipaddress.ip_address("10.0.0.4"))
    assert named.may_connect("localhost", ipaddress.ip_address("::1"))
    assert not named.may_connect("localhost", ipaddress.ip_address("10.0.0.3"))
    network = SourceRules.of(["https://host.example/", "10.0.0.0/8", "fd00::/8"])
    assert network.may_connect("host.example", ipaddress.ip_address("10.9.9.9"))
    assert network.may_connect("host.example", ipaddress.ip_address("fd12::1"))
    assert not network.may_connect("host.example", ipaddress.ip_address("192.168.0.1"))


@pytest.mark.parametrize(
    ("path", "is_network"),
    {
        "/vsicurl/http://localhost/a.tif": True,
        "/vsicurl?url=localhost": True,
        "/vsicurl_streaming/localhost/a": True,
        "/vsis3/bucket/a.tif": True,
        "/vsizip//vsigs/bucket/a.zip/b.tif": True,
        "/vsitar/{/vsiaz/bucket/a.tar}/b.tif": True,
        "/VSIS3/bucket/a.tif": True,
        "NETCDF:https://host/a.nc:x": True,
        "/vsizip/a.zip/vsis3.tif": False,
        "GTIFF_DIR:1:a.tif": False,
    }.items(),
)
def test_names_by_which_gdal_reaches_over_a_network(path, is_network):
    assert is_network_path(path) == is_network
