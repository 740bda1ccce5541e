"""Bytes on disk: block files, staged writes, atomic replacement."""
