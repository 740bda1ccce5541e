"""The page about a recording."""
