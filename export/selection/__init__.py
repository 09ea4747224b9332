"""Model selection: candidates are trained or loaded, measured as they are served, and compared."""
