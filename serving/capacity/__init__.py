"""Plans the number, size and settings of replicas, from measurements of a running server or from numbers.

    python -m serving.capacity --server HOST:8500 --model emoji --rate 400
    python -m serving.capacity --rate 400 --latency-ms 13.5 --cpus 2 --model-mb 90
    python -m serving.capacity --tune --store models --model emoji

k8s/CAPACITY.md explains the plan.
"""

from serving.capacity.plan import CapacityPlan, Load, Measured, PlanError, plan

__all__ = ["CapacityPlan", "Load", "Measured", "PlanError", "plan"]
