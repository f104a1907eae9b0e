"""Credentials: where they come from, and that they are nowhere else."""

from __future__ import annotations

import datetime as dt
import logging
import pickle
import sys
import traceback

import pytest
from kit.faulty_proxy import FaultyProxy
from kit.forking import in_fork
from kit.object_servers import ACCESS_KEY, SECRET_KEY
from kit.scripts import run_script

from ndframes.errors import MissingExtraError, StoreAccessError, StoreError
from ndframes.system.objects.connection import connect_store
from ndframes.system.objects.retries import Limits
from ndframes.system.objects.store import Place

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

_QUICK = Limits(total_seconds=5.0, first_wait_seconds=0.005, longest_wait_seconds=0.05, log_seconds=0.0)


def provide_keys():
    expires_at = dt.datetime.now(dt.timezone.utc) + dt.timedelta(hours=1)
    return {"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY, "expires_at": expires_at}


def provide_wrong_keys():
    return {"access_key_id": ACCESS_KEY, "secret_access_key": "wrong-" + SECRET_KEY, "expires_at": None}


_CALLS = []


def provide_short_lived_keys():
    _CALLS.append(1)
    return {**provide_keys(), "expires_at": dt.datetime.now(dt.timezone.utc)}


def fail_with_secret():
    raise RuntimeError(f"cannot refresh {SECRET_KEY}")


@pytest.fixture
def without_keys(bucket, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    return bucket


def test_a_function_returns_the_keys(without_keys):
    store = connect_store(without_keys, credentials=provide_keys)
    store.create("a", b"1")
    assert pickle.loads(pickle.dumps(store)).load("a").data == b"1"
    in_fork(lambda: store.load("a").data == b"1")


def test_keys_that_expire_are_asked_for_again(without_keys):
    store = connect_store(without_keys, credentials=provide_short_lived_keys)
    for _ in range(3):
        store.create("a", b"1")
    assert len(_CALLS) >= 3


def test_a_function_that_fails_or_returns_wrong_keys_is_named(without_keys):
    with pytest.raises(StoreAccessError, match="those that provide_wrong_keys returns"):
        connect_store(without_keys, credentials=provide_wrong_keys).load("a")
    with pytest.raises(
        StoreAccessError, match="those that fail_with_secret returns, but it raised RuntimeError"
    ) as caught:
        connect_store(without_keys, credentials=fail_with_secret).load("a")
    assert SECRET_KEY not in "".join(traceback.format_exception(caught.value))


def test_the_lack_of_credentials_is_named(without_keys, monkeypatch):
    # A server that refuses stands in for the address at which instances find their credentials.
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(
        StoreAccessError, match="no credentials for it; it was accessed with those of this machine's instance"
    ):
        connect_store(without_keys, limits=_QUICK).load("a")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    with pytest.raises(StoreAccessError, match=r"no credentials \(AWS_SKIP_SIGNATURE is set\)"):
        connect_store(without_keys, limits=_QUICK).load("a")


def test_static_keys_and_what_does_not_pickle_are_refused(bucket):
    with pytest.raises(StoreError, match="credentials must be a function.*not dict.*AWS_ACCESS_KEY_ID") as caught:
        connect_store(bucket, credentials={"access_key_id": "a", "secret_access_key": SECRET_KEY})
    assert SECRET_KEY not in str(caught.value)
    with pytest.raises(StoreError, match="does not pickle"):
        connect_store(bucket, credentials=lambda: None)


def test_a_function_of_the_main_script_is_named_in_a_forked_child(without_keys):
    run_script(f"""
        import os
        from kit.object_servers import ACCESS_KEY, SECRET_KEY
        from ndframes.errors import StoreError
        from ndframes.system.objects.connection import connect_store

        def provide():
            return {{"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY, "expires_at": None}}

        store = connect_store({without_keys!r}, credentials=provide)
        store.create("a", b"1")
        child = os.fork()
        if not child:
            try:
                store.load("a")
            except StoreError as error:
                os._exit(0 if "cannot be loaded in a helper process" in str(error) else 1)
            os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
    """)


def test_threads_share_a_client_and_other_credentials_have_another(bucket, monkeypatch):
    store = connect_store(bucket)
    assert connect_store(bucket).requests is store.requests
    assert connect_store(bucket, credentials=provide_keys).requests is not store.requests
    assert connect_store(bucket, limits=_QUICK).requests is not store.requests
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    assert connect_store(bucket).requests is not store.requests


@pytest.mark.parametrize("fault", ["403", "503", "reset_before", "redirect"])
@pytest.mark.parametrize("is_forked", [False, True])
def test_no_secret_is_in_an_error_a_log_or_a_pickle(object_server, bucket, monkeypatch, caplog, fault, is_forked):
    with FaultyProxy(object_server.host) as proxy:
        object_server.use(monkeypatch, proxy.endpoint)
        monkeypatch.setenv("AWS_SESSION_TOKEN", "token-" + SECRET_KEY)
        store = connect_store(bucket, limits=_QUICK)
        assert SECRET_KEY not in repr(store) + repr(vars(store)) + repr(store.requests)
        assert SECRET_KEY.encode() not in pickle.dumps(store)
        proxy.fail(fault)

        def check():
            with caplog.at_level(logging.DEBUG):
                for call in (
                    lambda: store.load("a"),
                    lambda: store.create("a", b"1"),
                    lambda: list(store.scan("a")),
                    store.begin_fetch("a", [Place(0, 1)])[0],
                ):
                    with pytest.raises(OSError, match=bucket) as caught:
                        call()
                    assert SECRET_KEY not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)
                    assert SECRET_KEY.encode() not in pickle.dumps(caught.value)
            assert SECRET_KEY not in caplog.text
            return True

        if is_forked:
            in_fork(check)
        else:
            check()


def test_obstore_is_imported_only_when_it_is_needed():
    run_script("""
        import sys
        import ndframes
        import ndframes.system.objects.connection
        assert "obstore" not in sys.modules
        ndframes.system.objects.connection.connect_store("http://127.0.0.1:1/a")
        assert "obstore" not in sys.modules
    """)


def test_a_missing_obstore_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "obstore"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(MissingExtraError, match=r"pip install ndframes\[cloud\]"):
        connect_store("s3://never-used-elsewhere/a")
