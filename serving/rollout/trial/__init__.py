"""A version on trial: rehearsed on this machine, then measured on every replica against the one that serves."""
