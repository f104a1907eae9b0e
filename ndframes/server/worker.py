"""Worker: one of several processes that answer the requests at one port. It ends with the process that started it."""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from ..system.channel import Channel
from ..system.portable_error import PortableError
from ..system.serving import take_stdin
from ..system.threads import declare_worker_process
from .access import make_access
from .access_log import writing_access_log
from .metrics import Board
from .service import Service
from .serving import Server, adopt_listener

if TYPE_CHECKING:
    from ..frames.frames import Frames
    from ..system.channel import Message
    from .limits import ServiceLimits

__all__ = ["READY", "WorkerOrder", "serve_stdin"]
#: The reply of a worker that answers requests; otherwise it is a pickled :class:`~ndframes.system.portable_error.PortableError`.
READY = b"ready"
_STOP_SECONDS = 4.0
_PUBLISH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class WorkerOrder:
    """What a worker serves: the first message to it, with the descriptor of the port. A second one has that of the counts.

    Attributes:
        frames: the images.
        host: the address or name at which the port is.
        token: what each request must send.
        hosts: further names under which it is reached.
        limits: what requests may cost.
        access_log: the file of the access log, ``"-"`` for stdout; ``None``: none.
        workers: the number of workers.
        number: of this one, from 0.
        parent_pid: the process that started it.
    """

    frames: Frames
    host: str
    token: str = field(repr=False)
    hosts: tuple[str, ...]
    limits: ServiceLimits
    access_log: str | None
    workers: int
    number: int
    parent_pid: int


def serve_stdin() -> NoReturn:
    """Serve as the first message says, until the other end of the socket that is stdin is closed. Does not return."""
    status = 1
    try:
        # Ctrl-C reaches all processes of a terminal; the parent ends this one.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        declare_worker_process()
        channel = Channel(take_stdin())
        messages = _receive(channel)
        try:
            _serve(channel, messages)
            status = 0
        except Exception as error:  # noqa: BLE001 - told to the parent, and printed where it cannot be
            channel.send(pickle.dumps(PortableError(error)))
    except BaseException:  # noqa: BLE001 - the process ends here, and this is the place to say why
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        # Not sys.exit, which would wait for threads that decode.
        os._exit(status)


def _serve(channel: Channel, messages: Iterator[Message]) -> None:
    first, second = next(messages, None), next(messages, None)
    if first is None or second is None:  # the parent has ended
        return
    assert first.descriptor is not None and second.descriptor is not None  # noqa: S101, PT018 - they are sent with one
    order: WorkerOrder = pickle.loads(first.data)  # noqa: S301 - from our own parent
    board = Board(order.workers, order.number, second.descriptor)
    os.close(second.descriptor)
    access = make_access(order.host, token=order.token, hosts=order.hosts)
    service = Service(order.frames, access, order.limits, board=board)
    with writing_access_log(order.access_log):
        server = Server(service, listener=adopt_listener(first.descriptor), host=order.host)
        server.start()
        channel.send(READY)
        while not channel.has_ended and os.getppid() == order.parent_pid:
            service.publish()
            select.select([channel], [], [], _PUBLISH_SECONDS)
            channel.receive()
        service.close()
        server.stop(_STOP_SECONDS)


def _receive(channel: Channel) -> Iterator[Message]:
    """The messages, until the other end is closed."""
    while not channel.has_ended:
        select.select([channel], [], [])
        yield from channel.receive()
