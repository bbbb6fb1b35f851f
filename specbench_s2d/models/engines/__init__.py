"""How a pass of the lean forward is run: the engines behind `LlamaModel`.

`eager` runs it as torch calls, one by one, on any device. `graphs` runs passes of fixed shape that were prepared
before: on a CPU one call of a native kernel, on a GPU a CUDA graph.
"""
