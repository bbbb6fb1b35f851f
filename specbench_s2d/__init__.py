"""specbench_s2d."""
