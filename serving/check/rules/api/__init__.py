"""Mistakes that the API server refuses."""
