"""Size, scheduling, resources, images, the store and security."""
