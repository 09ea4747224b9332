"""Architectures and how they are trained."""
