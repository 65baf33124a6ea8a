"""From a failing observation to a sentence that names the fault."""
