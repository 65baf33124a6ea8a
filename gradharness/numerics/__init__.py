"""Arithmetic without policy: trees of tensors, units in the last place, tolerances, differences."""
