"""Stream Infer's ``stream_infer``, by :mod:`ndframes.stream`: the same names and signatures, with results that are kept.

The modules are those of Stream Infer: :mod:`~ndframes.compat.stream_infer.algo`, :mod:`~ndframes.compat.stream_infer.dispatcher`,
:mod:`~ndframes.compat.stream_infer.producer`, :mod:`~ndframes.compat.stream_infer.player`,
:mod:`~ndframes.compat.stream_infer.inference`, :mod:`~ndframes.compat.stream_infer.recorder` and
:mod:`~ndframes.compat.stream_infer.dynamic`. Where its versions differ, the spellings of all of them work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._lazy import load_lazily

if TYPE_CHECKING:
    from .algo import BaseAlgo
    from .dispatcher import DevelopDispatcher, Dispatcher, DispatcherManager
    from .dynamic import DynamicApp
    from .inference import Inference
    from .player import Player
    from .producer import OpenCVProducer, PyAVProducer
    from .recorder import Recorder

__all__ = [
    "BaseAlgo",
    "DevelopDispatcher",
    "Dispatcher",
    "DispatcherManager",
    "DynamicApp",
    "Inference",
    "OpenCVProducer",
    "Player",
    "PyAVProducer",
    "Recorder",
]

# Where each name lives.
_HOMES = {
    "BaseAlgo": "algo",
    "DevelopDispatcher": "dispatcher",
    "Dispatcher": "dispatcher",
    "DispatcherManager": "dispatcher",
    "DynamicApp": "dynamic",
    "Inference": "inference",
    "OpenCVProducer": "producer",
    "Player": "player",
    "PyAVProducer": "producer",
    "Recorder": "recorder",
}

__getattr__, __dir__ = load_lazily(__name__, __all__, _HOMES)
