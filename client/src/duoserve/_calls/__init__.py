"""How a call travels, sync or async alike: see README.md in this folder."""
