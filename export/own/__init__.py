"""Your own Keras model as a version of the contract: see `export/OWN_MODEL.md`."""
