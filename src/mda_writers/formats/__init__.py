"""How each format is written and read; one file a format."""
