"""Access: host, origin and token, by the rules alone."""

from __future__ import annotations

import pytest

from ndframes.errors import AccessError
from ndframes.server.access import Access, is_loopback, make_access

TOKEN = "a-token-of-the-tests"


def status_of(access: Access, **headers: str | list[str]) -> int:
    """The status of a request; 200 if it is answered."""
    given = [
        (name.encode(), value.encode("latin-1"))
        for name, values in headers.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    refusal = access.check(given)
    return 200 if refusal is None else refusal.status


BEARER = f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("127.0.0.1", 200),
        ("localhost:1", 200),
        ("LocalHost.:1", 200),
        ("[::1]:8000", 200),
        ("evil.example", 400),
        ("127.0.0.1.evil.example:8000", 400),
        ("localhost.evil.example", 400),
        ("127.0.0.1@evil.example", 400),
        ("127.0.0.1:8000:8000", 400),
        ("192.168.1.7", 400),
        ("", 400),
        ("127.0.0.1 evil", 400),
        ("ä", 400),
    ],
)
def test_the_host_must_be_one_of_the_own_names(host, status):
    assert status_of(make_access("127.0.0.1", token=TOKEN), host=host, authorization=BEARER) == status


def test_there_must_be_one_host():
    access = make_access("127.0.0.1", token=TOKEN)
    assert status_of(access, authorization=BEARER) == 400
    assert status_of(access, host=["localhost", "localhost"], authorization=BEARER) == 400


def test_elsewhere_addresses_are_allowed_and_names_only_if_given():
    access = make_access("0.0.0.0", token=TOKEN, hosts=["Camera.example"])
    for host, status in {
        "192.168.1.7:80": 200,
        "[fe80::1]:80": 200,
        "camera.example": 200,
        "evil.example": 400,
        "1.2.3.4.5": 400,
    }.items():
        assert status_of(access, host=host, authorization=BEARER) == status
    assert status_of(access, host="192.168.1.7") == 401


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:8000", 200),
        ("https://localhost:8000", 200),
        ("http://localhost:8001", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_a_page_of_another_site_is_refused(origin, status):
    access = make_access("127.0.0.1", token=TOKEN)
    assert status_of(access, host="localhost:8000", origin=origin, authorization=BEARER) == status


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (BEARER, 200),
        (f"bearer  {TOKEN}", 200),
        (f"Bearer {TOKEN[:-1]}", 401),
        (f"Bearer {TOKEN}x", 401),
        (f"Bearer {TOKEN.upper()}", 401),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
        ("Bearer ", 401),
        ("", 401),
        ("Bearer \xff", 401),
        ([BEARER, BEARER], 401),
    ],
)
def test_the_token_must_be_right(given, status):
    assert status_of(make_access("127.0.0.1", token=TOKEN), host="localhost", authorization=given) == status


def test_a_token_is_random_and_not_shown():
    first, second = make_access("127.0.0.1"), make_access("127.0.0.1")
    assert first.token != second.token
    assert len(first.token) >= 32
    assert first.token not in repr(first)


@pytest.mark.parametrize(
    "token", ["", "short", "x" * 300, "a token with some blanks", "ä" * 20, 12345678901234567, b"x" * 20]
)
def test_a_weak_token_is_an_error_that_does_not_show_it(token):
    with pytest.raises(AccessError, match="give 16 to 256 letters") as caught:
        make_access("127.0.0.1", token=token)
    assert not token or str(token) not in str(caught.value)


@pytest.mark.parametrize("name", ["", "http://camera", "camera:80", "a b", 5])
def test_a_wrong_name_of_a_host_is_an_error(name):
    with pytest.raises(AccessError, match="is not the name of a host"):
        make_access("127.0.0.1", hosts=[name])


def test_one_text_is_no_list_of_hosts():
    with pytest.raises(AccessError, match=r"hosts='camera\.example' is one name; give a list of names"):
        make_access("127.0.0.1", hosts="camera.example")


def test_what_loopback_is():
    assert [is_loopback(host) for host in ("127.8.9.1", "LOCALHOST", "::", "localhost.evil")] == [
        True,
        True,
        False,
        False,
    ]
