"""The folder of a session: names, notes, clocks, other devices' values, an honest manifest."""
