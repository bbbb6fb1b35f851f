"""A rehearsed CUDA device: tensors that say they are on `cuda:0` while their data is the processor's.

What runs on it are the package's own decoders, with real values, so that ids can be held against the CPU's.

- `tensors.py`: the tensor, and the mode that every operation passes through.
- `rules.py`: what CUDA refuses, and which operations make the host wait.
- `counts.py`: waits, launches and copied bytes.
- `capture.py`: graphs, recorded and replayed over the same storage.
- `cuda.py`: the stand-ins for `torch.cuda`.
- `guard.py`: a device guard for CUDA, which torch's CPU build lacks (it takes g++).
- `device.py`: all of it together, as one context manager.

What it cannot find: kernels that compute otherwise than the CPU's, races between streams, real memory, torch.compile on
a GPU, generators of the wrong device, and times.
"""
