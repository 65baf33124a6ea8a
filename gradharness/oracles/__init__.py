"""Independent sources of a derivative. Each says how wrong it may be."""
