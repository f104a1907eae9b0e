"""Credentials: where those of a store come from, without ever keeping one of them."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...errors import StoreError

if TYPE_CHECKING:
    from .addresses import StoreAddress

__all__ = [
    "Credentials",
    "check_credentials",
    "describe_credentials",
    "environment_digest",
    "relevant_environment",
    "replace_environment",
]
#: A function without arguments that returns credentials, and is called again when they expire.
Credentials = Callable[[], Any]
# What obstore and our own client of HTTP read from the environment.
_PREFIXES = ("AWS_", "AZURE_", "GOOGLE_")
_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
# The first variable that is set tells how the store is accessed, in obstore's own order.
_KINDS = {
    "s3": (
        ("AWS_SKIP_SIGNATURE", "no credentials (AWS_SKIP_SIGNATURE is set)"),
        ("AWS_ACCESS_KEY_ID", "the keys of the environment (AWS_ACCESS_KEY_ID)"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "web identity (AWS_WEB_IDENTITY_TOKEN_FILE)"),
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "those of the container"),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "those of the container"),
    ),
    "az": (
        ("AZURE_SKIP_SIGNATURE", "no credentials (AZURE_SKIP_SIGNATURE is set)"),
        ("AZURE_STORAGE_ACCOUNT_KEY", "the key of the account (AZURE_STORAGE_ACCOUNT_KEY)"),
        ("AZURE_STORAGE_SAS_KEY", "a shared access signature (AZURE_STORAGE_SAS_KEY)"),
        ("AZURE_STORAGE_SAS_TOKEN", "a shared access signature (AZURE_STORAGE_SAS_TOKEN)"),
        ("AZURE_STORAGE_TOKEN", "a bearer token (AZURE_STORAGE_TOKEN)"),
        ("AZURE_FEDERATED_TOKEN_FILE", "workload identity (AZURE_FEDERATED_TOKEN_FILE)"),
        ("AZURE_CLIENT_SECRET", "a client secret (AZURE_CLIENT_SECRET)"),
    ),
    "gs": (
        ("GOOGLE_SKIP_SIGNATURE", "no credentials (GOOGLE_SKIP_SIGNATURE is set)"),
        ("GOOGLE_SERVICE_ACCOUNT", "a service account (GOOGLE_SERVICE_ACCOUNT)"),
        ("GOOGLE_SERVICE_ACCOUNT_PATH", "a service account (GOOGLE_SERVICE_ACCOUNT_PATH)"),
        ("GOOGLE_SERVICE_ACCOUNT_KEY", "a service account (GOOGLE_SERVICE_ACCOUNT_KEY)"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "a file of credentials (GOOGLE_APPLICATION_CREDENTIALS)"),
    ),
}
_OF_INSTANCE = "those of this machine's instance, since the environment has none"


def check_credentials(credentials: object) -> Credentials | None:
    """Credentials that may be pickled without giving away a secret.

    Raises:
        StoreError: they are not a function, or it does not pickle.
    """
    if credentials is None:
        return None
    if not callable(credentials):
        raise StoreError(
            f"credentials must be a function that returns them, not {type(credentials).__name__}; static keys belong in the "
            "environment (AWS_ACCESS_KEY_ID and its like), so that they never are in a pickle"
        )
    try:
        pickle.dumps(credentials)
    except Exception as error:
        raise StoreError(
            f"the function that returns the credentials does not pickle ({type(error).__name__}), which workers and forked "
            "processes need; define it at the top level of a module"
        ) from error
    return credentials


def describe_credentials(address: StoreAddress, credentials: Credentials | None) -> str:
    """Which kind of credentials a store is accessed with, for messages."""
    if credentials is not None:
        return f"those that {getattr(credentials, '__qualname__', type(credentials).__qualname__)} returns"
    if address.is_http:
        return "no credentials"
    return next((text for name, text in _KINDS.get(address.scheme, ()) if os.environ.get(name)), _OF_INSTANCE)


def relevant_environment() -> dict[str, str]:
    """The variables of the environment that decide how stores are accessed."""
    return {name: value for name, value in os.environ.items() if _is_relevant(name)}


def _is_relevant(name: str) -> bool:
    return name.startswith(_PREFIXES) or name.upper() in _NAMES


def environment_digest() -> bytes:
    """Differs where :func:`relevant_environment` differs, and contains no secret."""
    return hashlib.sha256(repr(sorted(relevant_environment().items())).encode()).digest()


def replace_environment(variables: dict[str, str]) -> None:
    """Give this process the variables of another one; for a process that only sends its requests."""
    for name in set(relevant_environment()) - set(variables):
        del os.environ[name]
    os.environ.update(variables)
