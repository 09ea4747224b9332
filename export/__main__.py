"""`python -m export`: see `export.cli`."""

import os
import sys

# Before TensorFlow is imported: its start-up notes are for its own developers, and a model that is
# written on a GPU host carries operations that a CPU server can't run (tensorflow/serving#823).
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from export.cli import main

sys.exit(main())
