"""``ndframes serve``."""

from __future__ import annotations

import os
import queue
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..system.objects.addresses import is_url
from .common import (
    CommandError,
    UserPath,
    backend_of,
    backend_option,
    echo_json,
    json_option,
    show_path,
    workdir_option,
)
from .sources import is_dataset, orientation_option, read_dataset, sources_option

if TYPE_CHECKING:
    from ..errors import ServerError
    from ..frames.frames import Frames
    from ..frames.options import FramesOptions
    from ..server.limits import ServiceLimits
    from ..server.processes import ServingProcesses
    from ..server.running import Running

__all__ = ["serve"]
_STOP_SECONDS = 10.0


@click.command(short_help="Serve images over HTTP.")
@click.argument("paths", nargs=-1, required=True, type=UserPath(), metavar="PATH...")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Where to listen. Other machines reach the server only if this is an address of this machine, or 0.0.0.0; what is sent "
    "is not encrypted.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port.  [default: a free one]")
@click.option(
    "--token",
    envvar="NDFRAMES_TOKEN",
    help="What each request must send: 16 to 256 letters, digits, _ and -. Other users of this machine see the arguments of a "
    "program, and not its environment.  [default: $NDFRAMES_TOKEN, else a random one]",
)
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A further name under which the server is reached, such as that of a proxy. May be given several times.",
)
@click.option(
    "--threads", type=click.IntRange(1), default=4, show_default=True, help="Threads of a process that read and decode."
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Processes that answer requests, each with its own threads. They share the port, the token and the cache.",
)
@click.option(
    "--access-log",
    type=UserPath(dir_okay=False),
    metavar="FILE",
    help="Append a line of JSON for each request to a file; '-' is stdout. No line holds the token.",
)
@click.option("--open", "opens", is_flag=True, help="Open the page in a browser.")
@orientation_option
@sources_option
@workdir_option
@click.option(
    "--local-tier",
    type=UserPath(file_okay=False),
    metavar="DIR",
    help="For a workdir in an object store: a folder on this machine's disk that keeps what was read, for all processes.",
)
@click.option(
    "--tier-bytes",
    metavar="SIZE",
    help="How much the local tier may take, such as 500GB; what was used longest ago is removed.  [default: no limit]",
)
@backend_option(
    ("auto", "cog", "npy", "intra", "none"),
    default="auto",
    text="The form of cache entries: an image is converted when it is first read. 'none' reads the sources.",
)
@json_option
def serve(
    *,
    paths: tuple[str, ...],
    host: str,
    port: int,
    token: str | None,
    hosts: tuple[str, ...],
    threads: int,
    workers: int,
    access_log: str | None,
    opens: bool,
    orientation: Any,
    sources: tuple[str, ...],
    workdir: str | None,
    local_tier: str | None,
    tier_bytes: str | None,
    backend: str,
    as_json: bool,
) -> None:
    """Serve images over HTTP, until Ctrl-C.

    PATH is an image, a video, a folder or a glob, whose images and videos are served each, or a COCO or kwcoco dataset, a
    .json or .zip file. Several PATHs are images, videos and folders, and a folder among several is one sequence. An image may have
    an address such as s3://imagery/a.tif, which --sources must allow.

    The address that is printed opens a page that lists the images, and ndframes.connect(ADDRESS) reads them. It holds a token,
    without which the server answers nothing. Needs the extra 'serve'.

    \b
    For example:
      ndframes serve scans/
      ndframes serve scan.tif walk.mp4 --port 8000
      ndframes serve data.kwcoco.json --open
      ndframes serve scans/ --workers 4 --access-log access.jsonl
      ndframes serve scans/ --workdir s3://bucket/cache --local-tier /nvme/tier --tier-bytes 500GB
      ndframes serve scans/ --json

    Exit status: 0 ended by Ctrl-C or SIGTERM, 2 an argument is not valid, the port is taken, or worker processes end again and
    again.
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    from ..server.limits import ServiceLimits

    kept: FramesOptions = {"workdir": workdir, "local_tier": local_tier, "tier_bytes": tier_bytes}
    read: FramesOptions = {"backend": backend_of(backend), "orientation": orientation, "sources": sources}
    frames = _open_frames(paths, {**kept, **read})
    options = _Options(host, port, token, hosts, ServiceLimits(threads=threads), workers, access_log)
    with _watching_signals() as stopped, _serving(frames, options, stopped) as address:
        _tell(address, len(frames), as_json=as_json)
        if opens:
            click.launch(address)
        stopped.wait()


class _Stop:
    """The wish to end. Not an event of :mod:`threading`: a signal can interrupt its wait while that holds the lock that set takes."""

    def __init__(self) -> None:
        self.is_set = False
        self._wishes: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """Wish it; also in the handler of a signal."""
        self.is_set = True
        self._wishes.put(None)

    def wait(self) -> None:
        """Wait until it was wished."""
        self._wishes.get()


class _Options(NamedTuple):
    host: str
    port: int
    token: str | None
    hosts: tuple[str, ...]
    limits: ServiceLimits
    workers: int
    access_log: str | None


@contextmanager
def _serving(frames: Frames, options: _Options, stopped: _Stop) -> Iterator[str]:
    """Serve frames; gives the address.

    Raises:
        ServerError: the service has ended by itself.
    """
    from ..server.access_log import writing_access_log

    failures: list[ServerError] = []

    def fail(error: ServerError) -> None:
        failures.append(error)
        stopped.set()

    # Opened here also for worker processes, which open it again: an error comes before they start.
    with writing_access_log(options.access_log):
        service = _start(frames, options, fail)
        try:
            yield service.address
        finally:
            if not service.stop(_STOP_SECONDS):
                click.echo(f"ndframes: the server did not end within {_STOP_SECONDS:g} s, and is left behind", err=True)
    if failures:
        raise failures[0]


def _start(frames: Frames, options: _Options, fail: Callable[[ServerError], None]) -> Running | ServingProcesses:
    common: Any = {name: getattr(options, name) for name in ("port", "host", "token", "hosts", "limits")}
    if options.workers == 1:
        from ..server.running import serve as serve_here

        return serve_here(frames, **common)
    from ..server.processes import ServingProcesses

    return ServingProcesses(frames, count=options.workers, access_log=options.access_log, on_end=fail, **common)


def _tell(address: str, count: int, *, as_json: bool) -> None:
    if as_json:
        echo_json({"address": address, "images": count, "pid": os.getpid()})
    else:
        click.echo(address)


def _open_frames(paths: tuple[str, ...], options: FramesOptions) -> Frames:
    from ..frames.coco import CocoFrames
    from ..frames.simple import SimpleFrames

    if any(map(is_dataset, paths)):
        if len(paths) > 1:
            raise CommandError("a COCO dataset (.json or .zip) is served alone; start a server for each")
        folder = os.path.dirname(os.path.abspath(paths[0]))
        return CocoFrames(read_dataset(paths[0]), bundle_dpath=folder, **options)
    for path in paths:
        if not is_url(path) and not os.path.lexists(path) and not any(mark in path for mark in "*?[{"):
            raise CommandError(f"{show_path(path)} does not exist; check the path")
    is_list = len(paths) > 1 or is_url(paths[0]) or os.path.isfile(paths[0])
    frames = SimpleFrames(list(paths) if is_list else paths[0], **options)
    for path in filter(is_url, paths):
        frames.look_at(path)  # one that is missing or not allowed is an error before anything is served
    return frames


@contextmanager
def _watching_signals() -> Iterator[_Stop]:
    """What Ctrl-C and SIGTERM set, and Ctrl-C twice is as always."""
    stopped = _Stop()

    def stop(number: int, _: Any) -> None:
        if stopped.is_set and number == signal.SIGINT:
            raise KeyboardInterrupt
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
