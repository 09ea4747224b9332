"""A version's folder beside its SavedModel: checksums, signing, golden samples. The client does without."""
