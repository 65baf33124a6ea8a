"""Baselines: recorded levels of gradient tests in one reviewed file, and what has become of them."""
