"""`python -m duoserve`, the same as the command `duoserve`."""

import sys

from duoserve.cli import main

sys.exit(main())
