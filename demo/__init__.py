"""The main job from end to end, by the commands that a user types. Run it with `make demo`."""
