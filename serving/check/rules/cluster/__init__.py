"""Names and selectors, and what leads to the servers: Services, policies, routes."""
