"""Preprocessing as graph operations. Its twin without TensorFlow is `duoserve.preprocessing`."""
