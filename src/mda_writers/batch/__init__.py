"""Work on recordings that exist."""
