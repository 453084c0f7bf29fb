"""Ends an external tool, and everything it has started, as soon as the process that wants its result is gone.

    python _guard.py PARENT_PID COMMAND...

A parent that is killed outright (SIGKILL, out of memory) cannot stop its children: Yosys and abc would go on for
minutes, unseen. This process waits for the command and looks four times a second whether its own parent is still
PARENT_PID; when it is not, the whole process group is killed. Looking works on every POSIX system and also reaches
grandchildren, which the parent-death signal of Linux does not.

Run by path with ``python -I -S``, so it must import nothing but the standard library. Ends as the command did.
"""

import os
import signal
import subprocess
import sys

POLL_S = 0.25


def main(arguments: list[str]) -> int:
    parent, *command = arguments
    try:
        process = subprocess.Popen(command)
    except OSError as error:
        print(f"{command[0]} cannot be started: {error.strerror}")
        return 127
    while True:
        try:
            status = process.wait(timeout=POLL_S)
        except subprocess.TimeoutExpired:
            if os.getppid() == int(parent):
                continue
            process.kill()
            if os.getpgrp() == os.getpid():  # started as the leader of a group of its own
                os.killpg(0, signal.SIGKILL)
            return 1
        if status < 0:  # the caller shall see the same signal
            os.kill(os.getpid(), -status)
        return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
