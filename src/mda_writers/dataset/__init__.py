"""Reading recordings back."""
