"""What runs in a process of this machine that makes calls of a run: a ``Workplace`` at the end of a connection.

It is served until the program closes the connection or ends the process; ``concurrency.processes.child`` says what
binds the process to the program's life.
"""

from __future__ import annotations

import pickle
import threading
from typing import Any

from tracekeeper.concurrency.processes.channel import Channel
from tracekeeper.concurrency.processes.child import LEAVE_WITHIN, arm, connected
from tracekeeper.evaluation.executors.elsewhere.worker import Workplace


def main(hello: dict[str, Any]) -> None:
    """See ``child.main``."""
    channel = connected(hello)
    try:
        _serve(channel)
    except (EOFError, OSError):  # the program ends this process, or is gone
        arm(LEAVE_WITHIN)


def _serve(channel: Channel) -> None:
    _, setup = _heard(channel)
    place = Workplace(setup)
    threading.Thread(target=_tell, args=(channel, place), name="tracekeeper-telling", daemon=True).start()
    while True:
        kind, what = _heard(channel)
        match kind:
            case "begin":
                place.begin(what)
            case "cancel":
                place.cancel(what)
            case "leave":
                channel.send(pickle.dumps(("left", place.leave(what))))


def _heard(channel: Channel) -> tuple[str, Any]:
    message = channel.receive()
    assert message is not None
    found: tuple[str, Any] = pickle.loads(message)
    return found


def _tell(channel: Channel, place: Workplace) -> None:
    try:
        while True:
            channel.send(pickle.dumps(("said", place.poll())))
    except OSError:  # the program is gone: the other thread finds that out
        return
