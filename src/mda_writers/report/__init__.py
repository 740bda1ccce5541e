"""The HTML report of a recording or a session."""
