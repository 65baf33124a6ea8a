"""One file for each way to be wrong: ``explain`` names it if it explains everything that was seen, and is None else."""
