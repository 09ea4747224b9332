"""Texts to token ids: one file for each library, behind `duoserve.preprocessing.tokenizers.kinds`."""
