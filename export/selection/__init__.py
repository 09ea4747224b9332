"""Which model to choose: candidates trained or loaded, measured as they are served, and compared."""
