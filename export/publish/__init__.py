"""From a model to a published version: signatures, weights, warmup records, the gate and the store."""
