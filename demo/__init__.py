"""The main task from end to end, with the commands that a user types. Run it with `make demo`."""
