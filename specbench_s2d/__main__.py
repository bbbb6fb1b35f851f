"""`python -m specbench_s2d`: the same as the `specbench-s2d` command."""

import sys

from specbench_s2d.cli.main import main

sys.exit(main())
