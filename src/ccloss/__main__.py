"""``python -m ccloss``, for launchers that start modules: torchrun, accelerate."""

import sys

from ccloss.cli import main

sys.exit(main())
