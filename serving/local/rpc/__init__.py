"""The gRPC API: PredictionService, ModelService and Health."""
