"""A package per format: how its files are laid out, written, finished and read."""
