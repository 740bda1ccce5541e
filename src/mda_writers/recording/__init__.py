"""One recording: its frames' way to the disk, and what is on disk of it."""
