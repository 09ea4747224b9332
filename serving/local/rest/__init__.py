"""The REST API: HTTP, routes, and JSON to protos and back."""
