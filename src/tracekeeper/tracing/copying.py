"""The keeper's part in copies to another system: which endpoint, and whose thread sends them.

Invariants
----------
- All but ``copy`` and ``hold_copies`` is done in the shipper's thread; those wait with the caller's own deadline.
- Copies hold back nothing: what is stored is stored before they are asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracekeeper.tracing.intake import Intake

if TYPE_CHECKING:
    from tracekeeper.shipper.copies.worker import CopyWorker
    from tracekeeper.store.store import Store
    from tracekeeper.types import Copies


class Copying(Intake):
    """An intake whose store is copied, if the settings name an endpoint."""

    otlp: tuple[str | None, Any] = (None, None)
    """Endpoint and headers, as they are set now."""

    def store(self) -> Store:
        """The store that is copied."""
        raise NotImplementedError

    def begin_copies(self) -> None:
        """Begin with none: at first, and in a forked child."""
        self._copies: CopyWorker | None = None
        self._held: CopyWorker | None = None
        self._copied_to: tuple[str | None, Any] = (None, None)

    def storing(self) -> None:
        """See ``shipper.Source``: an endpoint is known before anything is stored that is to be copied to it."""
        wanted = self.otlp
        if self._copied_to == wanted:
            return
        before, self._copies = self._copies, None
        if before is not None:
            before.stop(0.0)
        self._copied_to = (None, None)
        endpoint, headers = wanted
        if endpoint is not None:
            from tracekeeper.shipper.copies.copier import Copier
            from tracekeeper.shipper.copies.endpoint import Endpoint
            from tracekeeper.shipper.copies.worker import CopyWorker

            made = CopyWorker(Copier(self.store, Endpoint.of(endpoint, headers)))
            made.copier.register()
            self._copies = made
        self._copied_to = wanted

    def stored(self) -> None:
        """See ``shipper.Source``: whoever copies has something to do."""
        if self._copies is not None:
            self._copies.wake()

    def copy(self, timeout: float) -> None:
        """Wait until copies of what is stored were sent, or cannot be sent at present; at most ``timeout`` seconds."""
        if self._copies is not None:
            self._copies.wait(timeout)

    @property
    def copies(self) -> Copies | None:
        """What became of the copies, as it was last known; ``None`` where there are none."""
        return None if self._copies is None else self._copies.account

    def stop_copies(self, timeout: float) -> None:
        """Let the thread end; the next thing that is stored starts it again."""
        if self._copies is not None:
            self._copies.stop(timeout)

    def hold_copies(self, timeout: float) -> bool:
        """Keep the copies away from the database until ``let_copies_go``; whether they are away from it."""
        found = self._copies
        if found is None:
            return True
        if not found.busy.acquire(timeout=timeout):
            return False
        self._held = found
        return True

    def let_copies_go(self) -> None:
        """Undo ``hold_copies``."""
        held, self._held = self._held, None
        if held is not None:
            held.busy.release()
