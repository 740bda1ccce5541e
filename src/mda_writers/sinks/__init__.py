"""What listens to every frame and is not a format."""
