"""Telling a process from a later one with the same number, and whether it still runs."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from tracekeeper.journal.layout import Header


def host() -> str:
    """This machine's name."""
    return platform.node()


def boot_id() -> str:
    """What identifies the time since this machine was started; empty where the system has no such thing.

    Source: ``/proc/sys/kernel/random/boot_id``, see random(4).
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # not Linux
        return ""


def started(pid: int) -> str:
    """When a process began, in the system's own unit; empty where that cannot be told or there is no such process.

    Source: field 22 (``starttime``, clock ticks since boot) of ``/proc/<pid>/stat``, see proc_pid_stat(5).
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux, or gone
        return ""
    return text.rpartition(")")[2].split()[19]  # the name before it may hold spaces and parentheses


def may_run(header: Header) -> bool:
    """Whether the process that wrote ``header`` may still run: ``False`` only when that is certainly not so."""
    if header.host != host():
        return True
    here = boot_id()
    if header.boot_id and here and header.boot_id != here:
        return False
    if sys.platform == "win32":  # os.kill would end the process instead of asking for it
        return True
    try:
        os.kill(header.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is there, and another user's
        pass
    now = started(header.pid)
    return not (header.process_started and now and now != header.process_started)
