"""The work of each call, for both APIs: protos in, protos out."""
