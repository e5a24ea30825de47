"""`python -m qmpd` is `qmpd`."""

import sys

from qmpd.cli.main import main

sys.exit(main())
