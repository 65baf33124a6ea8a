"""The command line: ``gradharness check``, ``fuzz``, ``list`` and ``explain``."""

from gradharness.cli.commands import main as main
