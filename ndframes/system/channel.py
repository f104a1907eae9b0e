"""Channel: messages and file descriptors over a socket that never blocks, whatever happens to the other end."""

from __future__ import annotations

import os
import socket
import struct
from array import array
from collections import deque
from typing import NamedTuple

from .process import ForkAware

__all__ = ["Channel", "Message"]
# The length of the message, and the number of descriptors that belong to it.
_HEADER = struct.Struct("<QB")
_READ_BYTES = 1 << 16
_EXTRA_BYTES = socket.CMSG_SPACE(16 * array("i").itemsize) if hasattr(socket, "CMSG_SPACE") else 0
# Linux can do this at once; elsewhere, a child that is started in between inherits the descriptor.
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Message(NamedTuple):
    """A message, and the file descriptor that came with it; ``None`` if none was sent, -1 if it did not get through."""

    data: bytes
    descriptor: int | None


class Channel(ForkAware):
    """One end of a connection between two processes.

    The peer may be killed half way through a message, or another process may hold its end open, so a blocking read could
    wait for ever. Here, messages are assembled from what has arrived, and what cannot be sent yet is kept. A forked process
    closes its copy of this end, which would keep the peer waiting after this process has ended.

    Args:
        connection: one end of a pair of Unix sockets; the channel owns it.

    Example:
        >>> ours, theirs = map(Channel, socket.socketpair())
        >>> ours.send(b"one")
        >>> ours.send(b"two")
        >>> [message.data for message in theirs.receive()]
        [b'one', b'two']
        >>> ours.close()
        >>> theirs.receive(), theirs.has_ended
        ([], True)
        >>> theirs.close()
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._incoming = bytearray()
        self._descriptors: deque[int] = deque()
        self._outgoing: deque[tuple[memoryview, int | None]] = deque()
        self._is_broken = False
        self.has_ended = False
        super().__init__()

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._socket.fileno()

    @property
    def is_sending(self) -> bool:
        """Whether something waits until it can be sent."""
        return bool(self._outgoing) and not self._is_broken

    def send(self, data: bytes, descriptor: int | None = None) -> None:
        """Send a message, now or, as far as the peer does not read it yet, in :meth:`flush`.

        Args:
            data: the message.
            descriptor: a file descriptor to pass on; it is closed here after that.
        """
        header = _HEADER.pack(len(data), descriptor is not None)
        self._outgoing.append((memoryview(header + data), descriptor))
        self.flush()

    def flush(self) -> None:
        """Send as much as is possible without waiting."""
        while self.is_sending:
            data, descriptor = self._outgoing[0]
            passed = [] if descriptor is None else [descriptor]
            try:
                count = socket.send_fds(self._socket, [data], passed) if passed else self._socket.send(data)
            except BlockingIOError:
                return
            except OSError:  # the peer has ended; what it sent before can still be received
                self._is_broken = True
                return
            if descriptor is not None:
                os.close(descriptor)
            if count == len(data):
                self._outgoing.popleft()
            else:
                self._outgoing[0] = data[count:], None

    def receive(self) -> list[Message]:
        """All messages that have arrived completely. Sets ``has_ended`` if no other can come."""
        while not self.has_ended:
            try:
                # Not socket.recv_fds, which ignores its flags before Python 3.12.
                data, extras, flags, _ = self._socket.recvmsg(_READ_BYTES, _EXTRA_BYTES, _CLOSE_ON_EXEC)
            except BlockingIOError:
                break
            except OSError:
                data, extras, flags = b"", [], 0
            for _, kind, content in extras:
                if kind == socket.SCM_RIGHTS:
                    self._descriptors.extend(_unpack_descriptors(content))
            if flags & socket.MSG_CTRUNC:  # this process has no descriptor left
                self._descriptors.append(-1)
            self._incoming += data
            self.has_ended = not data
        messages = []
        while (message := self._next_message()) is not None:
            messages.append(message)
        return messages

    def _next_message(self) -> Message | None:
        if len(self._incoming) < _HEADER.size:
            return None
        length, has_descriptor = _HEADER.unpack_from(self._incoming)
        end = _HEADER.size + length
        if len(self._incoming) < end:
            return None
        data = bytes(self._incoming[_HEADER.size : end])
        del self._incoming[:end]
        descriptor = self._descriptors.popleft() if has_descriptor and self._descriptors else None
        return Message(data, descriptor)

    def shut_down(self) -> None:
        """Tell the peer that this is the end, even if another process holds a copy of this end."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:  # it has ended first
            pass

    def close(self) -> None:
        """Close the socket, and the descriptors that were not passed on."""
        self._socket.close()
        waiting = [descriptor for _, descriptor in self._outgoing if descriptor is not None]
        for descriptor in (*waiting, *self._descriptors):
            if descriptor >= 0:
                os.close(descriptor)
        self._outgoing.clear()
        self._descriptors.clear()
        self._is_broken = self.has_ended = True

    def _after_fork_in_child(self) -> None:
        self.close()


def _unpack_descriptors(content: bytes) -> array[int]:
    descriptors = array("i")
    # The system may cut the last one off.
    descriptors.frombytes(content[: len(content) // descriptors.itemsize * descriptors.itemsize])
    return descriptors
