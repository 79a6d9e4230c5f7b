"""Outlives `manage.py up` by a moment, to kill the children of an `up` that could not stop them itself.

Run as a script by `jobs.supervisor`, in a session of its own. It reads lines from standard input: "+GROUP"
when a process group was started, "-GROUP" when it has ended. Only `up` holds the other end, so the end of
input means that `up` is dead, however it died. SIGKILL at once is right here: an abrupt end of `up` is one
for all, and jobs are made to survive it.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterable


def living_groups(lines: Iterable[str]) -> set[int]:
    """The process groups that were started and not ended when the lines stop."""
    groups: set[int] = set()
    for line in lines:
        sign, group = line[:1], line[1:].strip()
        if sign == "+":
            groups.add(int(group))
        else:
            groups.discard(int(group))
    return groups


def kill_groups(groups: Iterable[int]) -> None:
    for group in groups:
        # PermissionError is what macOS says of a group in which only zombies are left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    kill_groups(living_groups(sys.stdin))
