"""What runs in child processes of the tests, to be killed or to run out of disk there."""
