"""Jupyter: an extension of its server, which passes requests of a browser on to services in kernels, behind Jupyter's login."""

from __future__ import annotations

from typing import Any

from .notebook import NAMESPACE

__all__: list[str] = []


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(server_app: Any) -> None:
    from jupyter_loopback import setup_proxy_handler

    setup_proxy_handler(server_app.web_app, namespace=NAMESPACE)
