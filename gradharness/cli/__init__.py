"""The command line: ``gradharness check``, ``list`` and ``explain``."""

from gradharness.cli.commands import main as main
