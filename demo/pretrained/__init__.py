"""Two pretrained encoders joined into a model of image and text, from weights to answers: `make demo-pretrained`."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
