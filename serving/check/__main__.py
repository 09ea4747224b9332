"""`python -m serving.check`."""

import sys

from serving.check.cli import main

sys.exit(main())
