"""The corridor from the camera's thread to the disk."""
