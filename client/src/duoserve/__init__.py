"""A thin gRPC client for image + text models on TensorFlow Serving."""
