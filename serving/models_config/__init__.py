"""The server's `models.config`: read as protos, parsed with positions, edited in place."""
