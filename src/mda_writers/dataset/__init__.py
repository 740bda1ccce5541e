"""Read back what was recorded, also while it is being recorded."""
