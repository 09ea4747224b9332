"""From measured latency and load to replicas, threads, memory and batching settings.

    python -m serving.capacity --rate 400 --latency-ms 13.5 --cpus 2 --model-mb 90

k8s/CAPACITY.md has the reasoning and how to measure.
"""

from serving.capacity._plan import Load, Measured, Plan, PlanError, plan

__all__ = ["Load", "Measured", "Plan", "PlanError", "plan"]
