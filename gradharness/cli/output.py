"""What happens where standard output takes no more: its status must not look like that of a wrong gradient."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import click

CLOSED = 141  # as a shell has it for what SIGPIPE has ended
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


class WritingGroup(click.Group):
    """Commands that end quietly when their reader does (``gradharness list | head``), and with 2 on a full disk."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            _give_up()
            sys.exit(CLOSED)
        except OSError as error:
            if error.errno not in FULL or error.filename is not None:
                raise
            _give_up()
            click.echo(f"gradharness: cannot write the output: {error.strerror}; give it another place", err=True)
            sys.exit(2)


def _give_up() -> None:
    """The interpreter flushes at its end, and would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
