"""Runs a command on a pseudo terminal: its output goes to stdout, and what stdin brings is typed, each line when the command listens.

A prompt shows its question before it takes the keyboard, and what a person could not have typed by then is lost: programs that turn
the echo off throw away what came before. So a line waits until the echo is off, which it is in every prompt that is under way.
"""

import fcntl
import os
import pty
import select
import struct
import sys
import termios

child, terminal = pty.fork()
if child == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
# Wide enough that no question is broken into two lines.
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))


def listens():
    return not termios.tcgetattr(terminal)[3] & termios.ECHO


typed = b""
sources = [terminal, 0]
while True:
    ready = select.select(sources, [], [], 0.01 if typed else None)[0]
    if terminal in ready:
        try:
            shown = os.read(terminal, 65536)
        except OSError:  # how Linux says that the command is gone
            break
        os.write(1, shown)
    if 0 in ready:
        read = os.read(0, 65536)
        typed += read
        if not read:
            sources.remove(0)
    if typed and listens():
        line, _, typed = typed.partition(b"\n")
        os.write(terminal, line + b"\r")

sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
