"""``python -m gradharness``."""

from gradharness.cli import main

if __name__ == "__main__":
    main()
