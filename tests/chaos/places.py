"""Where a run keeps its things, and the two parts of the machine that it takes away: the clock and the disk."""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[1] / "src"


class Clock:
    """The wall clock of one process and its children, ahead or behind by ``offset`` seconds.

    A preloaded library (``clock.c``) rather than a patch in Python: SQLite and the interpreter see it too, and the
    product knows nothing of it. Without a C compiler clocks are left alone, which the run says.
    """

    library: Path | None = None

    @classmethod
    def prepare(cls, folder: Path) -> bool:
        """Build the library; whether that was possible."""
        compiler = shutil.which("cc") or shutil.which("gcc")
        cls.library = None
        if compiler is None or os.uname().sysname != "Linux":
            return False
        made = folder / "clock.so"
        command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(made), str(HERE / "clock.c"), "-ldl"]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return False
        cls.library = made
        return True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0.0
        path.write_bytes(struct.pack("q", 0))

    def environment(self) -> dict[str, str]:
        """What a process needs to live by this clock."""
        return {} if self.library is None else {"LD_PRELOAD": str(self.library), "CHAOS_CLOCK": str(self.path)}

    def step(self, offset: float) -> None:
        """Set it ``offset`` seconds beside the real one, in one write that no reader sees half of."""
        self.offset = offset
        with self.path.open("r+b", buffering=0) as file:
            file.write(struct.pack("q", round(offset * 1e9)))


class Disk:
    """A small disk for the data directory, which can be full.

    A file system in memory of its own where that may be mounted: then it is full for journals, SQLite and everybody.
    Elsewhere the fault points of the journal and the store say so (see ``sitecustomize.py``).
    """

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        folder.mkdir()
        self._ballast = folder / "ballast"
        self._sign = folder.parent / "disk-is-full"
        options = f"size={megabytes}m,mode=700".encode()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.mounted = os.uname().sysname == "Linux" and not self._libc.mount(
            b"chaos", str(folder).encode(), b"tmpfs", 0, options
        )

    def environment(self) -> dict[str, str]:
        """What a process needs to notice."""
        return {} if self.mounted else {"CHAOS_DISK": str(self._sign)}

    def fill(self) -> None:
        """Leave not a byte."""
        if not self.mounted:
            self._sign.touch()
            return
        with self._ballast.open("wb") as file:
            left = shutil.disk_usage(self.folder).free
            while left >= 4096:
                try:
                    os.posix_fallocate(file.fileno(), file.tell(), left)
                    file.seek(0, os.SEEK_END)
                except OSError:  # somebody took some of it meanwhile
                    left //= 2

    def free(self) -> None:
        """Give it back."""
        self._ballast.unlink(missing_ok=True)
        self._sign.unlink(missing_ok=True)

    def close(self, kept: Path) -> None:
        """Move what is on it to ``kept`` and unmount it."""
        self.free()
        if not kept.exists():
            shutil.copytree(self.folder, kept, symlinks=True)
        if self.mounted:
            detach = 2  # MNT_DETACH: whatever still holds a file of it must not keep the mount
            self._libc.umount2(str(self.folder).encode(), detach)
            self.mounted = False
