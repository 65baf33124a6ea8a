"""Python source that makes a value again, or gets at a function: what stand-alone scripts are made of."""
