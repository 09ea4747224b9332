"""One loaded version: SavedModel, session, batch queues."""
