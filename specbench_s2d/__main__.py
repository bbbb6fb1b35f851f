"""`python -m specbench_s2d`: the same as the `specbench-s2d` command."""

from specbench_s2d.cli.main import entry

entry()
