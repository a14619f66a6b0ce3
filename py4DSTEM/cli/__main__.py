"""``python -m py4DSTEM.cli``: the same as ``py4dstem``."""

import sys

from py4DSTEM.cli import main

sys.exit(main())
