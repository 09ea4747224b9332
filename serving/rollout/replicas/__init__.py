"""Discovers the replicas, what each serves, and whether all of them follow models.config."""
