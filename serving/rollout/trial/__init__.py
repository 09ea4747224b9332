"""The trial of a version: rehearsed on this machine, then compared on every replica with the serving version."""
