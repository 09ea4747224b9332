"""Channels, TLS, and the two drivers that perform a call: by blocking and by awaiting."""
