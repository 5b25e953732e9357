"""Real web servers on the loopback interface, each in a thread of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn


class Serving(uvicorn.Server):
    """uvicorn that says when it listens and when it has ended."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.listening.set()


class Server:
    """What a test knows of a running server."""

    def __init__(self, serving: Serving, port: int, thread: threading.Thread) -> None:
        self.serving, self.port, self.thread = serving, port, thread
        self.url = f"http://127.0.0.1:{port}"

    def stop(self) -> None:
        """Stop it, and wait until it has stopped."""
        self.serving.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()


@contextmanager
def serving(app: Any, **options: Any) -> Iterator[Server]:
    """Serve an ASGI application with uvicorn until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    usual = {"log_level": "critical", "ws": "websockets-sansio", "lifespan": "on", "timeout_graceful_shutdown": 10}
    config = uvicorn.Config(app, **{**usual, **options})
    server = Serving(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="uvicorn")
    thread.start()
    assert server.listening.wait(30)
    running = Server(server, listener.getsockname()[1], thread)
    try:
        yield running
    finally:
        running.stop()
        listener.close()
