"""What every test may use. TensorFlow is told here, before anything imports it, to be quiet and to leave GPUs alone."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
