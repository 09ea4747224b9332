"""Which versions serve: found on disk, loaded, labelled, unloaded. Knows nothing of TensorFlow graphs."""
