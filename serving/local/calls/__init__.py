"""What each call does, whichever API it came through: protos in, protos out."""
