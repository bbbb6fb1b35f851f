"""Energy of a block of work: `meter` says what a meter is, `nvml` and `rapl` read real ones, `trace` samples and
integrates power, `block` measures work until it is long enough, `choose` picks a meter."""
