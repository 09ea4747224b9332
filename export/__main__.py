"""`python -m export`: see `export.cli`."""

import os
import sys

# Set before TensorFlow is imported: its start-up messages are for its developers, and a model that is
# written on a GPU host has operations that a CPU server can't run (tensorflow/serving#823).
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from export.cli import main

sys.exit(main())
