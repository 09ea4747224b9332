"""Mistakes that people make in these manifests, by topic, and harmless changes."""

from tests.k8s.mutations import api, cluster, operations, server, workloads
from tests.k8s.mutations.edits import Mutation

__all__ = ["EVERY", "Mutation"]

EVERY = [mutation for table in (server, cluster, workloads, operations, api) for mutation in table.MUTATIONS]
