"""Energy of work: `meter` says what a meter is, `nvml` and `rapl` read real ones, `trace` samples and integrates power,
`reading` takes a checked reading around work, `windows` meters timed windows, `block` repeats work until it is long
enough, `choose` picks a meter."""
