"""A page about a recording or a session: what was taken, when, how well, whether it is whole."""
