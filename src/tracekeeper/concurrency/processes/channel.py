"""Messages over a socket between a program and its worker processes.

Not ``multiprocessing.connection``: a sender there cannot be stopped, and closing one from another thread does not wake
who reads it. Here ``shut`` does both, so that whoever kills the process at the other end also frees the thread that
talks to it, even when a process that was forked from the other end still holds the socket.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

_SIZE = struct.Struct("!Q")
_PIECE = 1 << 20


class Channel:
    """Whole messages (bytes), in order. One thread sends and receives; any may ``note`` and ``shut``."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._sending = threading.Lock()
        self._unread = bytearray()

    def send(self, message: bytes) -> None:
        """Send a message; waits as long as the other end does not read.

        Raises
        ------
        OSError
            The other end is gone, or the channel was shut.
        """
        with self._sending:
            self._send(message)

    def note(self, message: bytes) -> bool:
        """Send a message from any thread, even from a finaliser; false when another one is being sent just now.

        Raises
        ------
        OSError
            As ``send`` does.
        """
        if not self._sending.acquire(blocking=False):  # the holder may be this very thread, one frame up
            return False
        try:
            self._send(message)
        finally:
            self._sending.release()
        return True

    def _send(self, message: bytes) -> None:
        self._socket.settimeout(None)
        self._socket.sendall(_SIZE.pack(len(message)))
        self._socket.sendall(message)

    def receive(self, timeout: float | None = None) -> bytes | None:
        """The next message; ``None`` when it is not whole after ``timeout`` seconds (what came of it is kept).

        Raises
        ------
        EOFError
            The other end is gone, or the channel was shut.
        """
        self._socket.settimeout(timeout)
        while True:
            message = self._whole()
            if message is not None:
                return message
            try:
                piece = self._socket.recv(_PIECE)
            except TimeoutError:
                return None
            except OSError as error:
                raise EOFError(str(error)) from error
            if not piece:
                raise EOFError("the other end is gone")
            self._unread += piece

    def _whole(self) -> bytes | None:
        unread = self._unread
        if len(unread) < _SIZE.size:
            return None
        end = _SIZE.size + _SIZE.unpack_from(unread)[0]
        if len(unread) < end:
            return None
        message = bytes(memoryview(unread)[_SIZE.size : end])
        del unread[:end]
        return message

    def idle(self) -> bool:
        """Whether the other end is there and says nothing, as one does that waits for a call."""
        self._socket.settimeout(0)
        try:
            self._socket.recv(1, socket.MSG_PEEK)
            return False
        except BlockingIOError:
            return True
        except OSError:
            return False

    def shut(self) -> None:
        """End the conversation: both ends find it at its end, whoever waits in it is woken. From any thread."""
        with contextlib.suppress(OSError):  # the other end was quicker
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Free the socket, without telling the other end if another process shares it."""
        self._socket.close()
