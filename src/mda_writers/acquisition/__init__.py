"""The folder of a session."""
