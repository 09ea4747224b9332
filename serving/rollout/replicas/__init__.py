"""Which replicas there are, what each of them serves, and whether all of them follow models.config."""
