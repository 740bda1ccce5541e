"""``python -m mda_writers``."""

from mda_writers.cli import main

if __name__ == "__main__":
    main()
