"""Seeds made of other seeds: a pure function of what they are for, so that nothing depends on what ran before."""

from __future__ import annotations

import hashlib
import secrets

from gradharness.inputs.recipe import MAX_SEED

_STRIDE = 1_000_003  # between the programs of one seed and those of the next


def fresh_seed() -> int:
    """A seed that nobody chose."""
    return secrets.randbelow(2**31)


def derived_seed(seed: int, *words: str | int) -> int:
    """The seed for one use of a seed; uses that differ in any word have nothing in common.

    Args:
        seed: What the user gave.
        *words: What it is for.
    """
    text = "/".join(map(str, (seed, *words)))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % (MAX_SEED + 1)


def program_seed(seed: int, number: int) -> int:
    """The seed of a search's program of this number."""
    return seed * _STRIDE + number
