"""What a command takes from ``[tool.gradharness]`` of the nearest ``pyproject.toml``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gradharness.cli.targets import Target
from gradharness.config import Config, load_config
from gradharness.engine.settings import insist_on_profile, use_profiles
from gradharness.errors import UsageError


def configured(profile: str | None = None) -> Config:
    """The configuration of the current folder, with its profiles made known.

    Args:
        profile: Name of the profile that was asked for.

    Raises:
        ConfigError: As ``load_config``.
        UnknownNameError: No profile has that name.
    """
    config = load_config(Path.cwd())
    use_profiles(config.own_profiles)
    insist_on_profile(profile)
    return config


def targets_of(texts: tuple[str, ...], config: Config) -> tuple[str, ...]:
    """The targets that were named, else the configured ones.

    Raises:
        UsageError: There are neither.
    """
    if not (texts or config.targets):
        raise UsageError(
            "no TARGET: name a file, a folder or module:attribute, or set tests = [...] in [tool.gradharness] of "
            "pyproject.toml"
        )
    return texts or config.targets


def give_defaults(targets: Iterable[Target], config: Config, asked: dict[str, Any]) -> None:
    """Gives gradient tests what their authors left open, save what the command line says itself.

    Raises:
        ConfigError: The configuration names a check, device or dtype that does not exist.
    """
    config.insist_on_names()
    defaults = {name: value for name, value in config.defaults.items() if not asked.get(name)}
    for target in targets:
        target.test.defaults = defaults
