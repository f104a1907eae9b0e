"""HTTP: frames as a service, and its client; who may ask, and how an application is served in a thread.

The server needs the extra ``serve``, the client does not. The names below are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import load_lazily

if TYPE_CHECKING:
    from .limits import ServiceLimits
    from .running import Running, serve
    from .service import Service, create_app

__all__ = ["Running", "Service", "ServiceLimits", "create_app", "serve"]
_HOMES = {
    "Running": "running",
    "Service": "service",
    "ServiceLimits": "limits",
    "create_app": "service",
    "serve": "running",
}

__getattr__, __dir__ = load_lazily(__name__, __all__, _HOMES)
