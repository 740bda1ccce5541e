"""Nouns: what a recording consists of. No files, no threads."""
