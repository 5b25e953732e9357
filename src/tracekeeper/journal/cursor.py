"""How far a journal has been shipped: plain data that travels with the batch it belongs to."""

from __future__ import annotations

import msgspec

from tracekeeper.types import JournalError


class Position(msgspec.Struct, frozen=True, order=True, array_like=True, gc=False):
    """Where a frame lies: its chunk, that chunk's generation, and the byte offset inside the chunk.

    There is one for each frame that is read, so it costs the garbage collector nothing.
    """

    chunk: int
    generation: int
    offset: int


class Cursor(msgspec.Struct, frozen=True):
    """Everything before it is stored.

    Parameters
    ----------
    chunks:
        Per chunk its generation and the offset of the first byte that was not read. A chunk that is not named, or is
        named with an older generation, is unread. (An odd offset, since frames are aligned to 8, says that the damage
        at this place has been counted.)
    held:
        Frames before those offsets that are still needed: starts of spans that are not stored yet. Their chunks are
        not recycled.

    Example
    -------
    >>> Cursor.decode(Cursor(chunks={0: (1, 96)}).encode()).chunks
    {0: (1, 96)}
    >>> Cursor.decode(b"")
    Cursor(chunks={}, held=())
    """

    chunks: dict[int, tuple[int, int]] = {}
    held: tuple[Position, ...] = ()

    def encode(self) -> bytes:
        """The cursor as bytes."""
        return _encoder.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Cursor:
        """The cursor from bytes; no bytes mean the beginning.

        Raises
        ------
        JournalError
            The bytes are no cursor.
        """
        if not data:
            return cls()
        try:
            return _decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise JournalError(f"not a journal cursor: {error}") from error

    def covers(self, chunk: int, generation: int, end: int) -> bool:
        """Whether everything before ``end`` in this generation of ``chunk`` has been read."""
        found = self.chunks.get(chunk)
        if found is None:
            return False
        return found[0] > generation or (found[0] == generation and found[1] & -8 >= end)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Cursor)
