"""Texts to token ids: one file a library, behind `duoserve.preprocessing.tokenizers.kinds`."""
