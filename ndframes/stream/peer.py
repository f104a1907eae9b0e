"""Peer: a process that runs a function, with a pipe between it and this process."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import socket
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from ..errors import StreamError
from ..system.children import StartMethod, can_start_children, interrupts_blocked, start_child
from ..system.pickling import loads_without_main
from ..system.serving import take_stdin
from ..system.threads import declare_worker_process

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Peer", "shut_down"]
_SERVE = "from ndframes.stream.peer import serve_stdin; serve_stdin()"


class Peer:
    """A process that calls ``serve(pipe, argument)`` and then ends. It also ends when this process does, if it reads the pipe.

    It does not load the main module, unless something that it needs is defined there.

    Args:
        serve: a function of a module.
        argument: what it gets, pickled.
        what: what it is, for messages.

    Attributes:
        pipe: the end of this process.

    Raises:
        StreamError: the argument does not pickle, or no process can be started here.
    """

    def __init__(self, serve: Callable[[Connection, Any], None], argument: Any, what: str) -> None:
        self._is_main_loaded = not loads_without_main(argument)
        method: StartMethod = "spawn" if self._is_main_loaded or not can_start_children() else "command"
        if method == "spawn" and multiprocessing.current_process().daemon:
            raise StreamError(
                f"{what} cannot start in a daemonic process of multiprocessing, because it needs what the main module defines; "
                "define that in a module that can be imported"
            )
        try:
            request = pickle.dumps((serve, argument), protocol=5)
        except Exception as error:
            raise StreamError(f"{what} cannot start: what it needs does not pickle: {error}") from error
        try:
            mine, its = socket.socketpair()
            with mine, its, interrupts_blocked(method):
                self._child = start_child(method, _SERVE, serve_socket, its)
                self.pipe = Connection(mine.detach())
        except OSError as error:
            raise StreamError(f"{what} cannot start: {error}") from error
        try:
            self.pipe.send_bytes(request)
        except OSError as error:
            ended = StreamError(f"{what} {self.describe_end()}")
            self.close(0)
            raise ended from error

    def kill(self) -> None:
        """End it by a signal; any thread may call it."""
        try:
            self._child.send_signal(signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended

    def end_sending(self) -> None:
        """Let the process find the end of the pipe, which can still be read here."""
        shut_down(self.pipe, socket.SHUT_WR)

    def close(self, seconds: float) -> None:
        """Close the pipe, and kill the process if it has not ended after so many seconds."""
        self.pipe.close()
        if self._child.wait(seconds) is None:
            self.kill()
            self._child.wait(5)
        self._child.release()

    def describe_end(self) -> str:
        """How it has ended, for messages; waits for its end."""
        status = self._child.wait(5)
        if status is None:
            return "has closed its pipe"
        if status < 0:
            return f"was killed by signal {-status}"
        advice = ""
        if self._is_main_loaded and status == 1:
            advice = (
                "; it loads the main module, which must start nothing then: put what runs the pipeline under if __name__ == "
                "'__main__', or define the algorithm in another module"
            )
        return f"ended with exit status {status}{advice}"


def shut_down(pipe: Connection, how: int) -> None:
    """End one direction of a pipe. With ``socket.SHUT_RD``, a thread that receives from it finds its end."""
    with socket.socket(fileno=os.dup(pipe.fileno())) as end:
        try:
            end.shutdown(how)
        except OSError:
            pass  # the other process has ended


def serve_stdin() -> None:
    """What a process does whose stdin is the pipe."""
    serve_socket(take_stdin())


def serve_socket(connection: socket.socket) -> None:
    """What a process does that got the pipe as a socket."""
    # Ctrl-C reaches all processes of a terminal; the pipeline ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    declare_worker_process()
    with Connection(connection.detach()) as pipe:
        try:
            request = pipe.recv_bytes()
        except EOFError:
            return  # the other process is gone
        serve, argument = pickle.loads(request)  # noqa: S301 - from our own parent
        serve(pipe, argument)
