"""The run: subjects × checks × devices × dtypes, searched with Hypothesis, told as events. Nothing here prints."""
