"""How a call travels, sync or async: see README.md in this folder."""
