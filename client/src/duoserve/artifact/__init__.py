"""What a version's folder holds beside its SavedModel: checksums, signature, golden samples. The client needs none."""
