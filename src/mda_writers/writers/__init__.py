"""What users construct: output handlers, also usable without an acquisition."""
