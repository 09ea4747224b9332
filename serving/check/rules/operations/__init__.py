"""The rollout, its rights, monitoring and alerts."""
