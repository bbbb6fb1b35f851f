"""Engines: how `LlamaModel` runs its passes.

`eager` runs a pass as torch calls, one by one, on any device. The prepared engines run passes of fixed shape: `native`
a C kernel on a CPU, `cuda-graphs` captured graphs on a GPU.
"""
