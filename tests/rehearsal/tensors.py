"""Tensors that say they are on a CUDA device, and the mode that every operation on them passes through."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from tests.rehearsal import rules
from tests.rehearsal.capture import Recording, address
from tests.rehearsal.counts import Counts
from tests.rehearsal.rules import RefusedError


def tensors_in(*values: Any) -> list[Tensor]:
    """Every tensor of an operation's arguments, which lie no deeper than in lists."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += tensors_in(*value)
        elif isinstance(value, dict):
            found += tensors_in(*value.values())
    return found


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """`value` with every leaf replaced."""
    if isinstance(value, list | tuple):
        parts = [mapped(function, part) for part in value]
        return type(value)(parts) if type(value) in (list, tuple) else type(value)(*parts)
    if isinstance(value, dict):
        return {name: mapped(function, part) for name, part in value.items()}
    return function(value)


class DeviceTensor(Tensor):
    """A tensor on `cuda:N`; `inner` holds its data on the CPU."""

    inner: Tensor
    mode: DeviceMode
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor, device: torch.device, mode: DeviceMode) -> DeviceTensor:
        made: DeviceTensor = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=device,
            requires_grad=inner.requires_grad,
        )
        made.inner, made.mode = inner, mode
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Where the mode is not in force, in another thread or in autograd's."""
        mode = next(leaf.mode for leaf in tensors_in(args, kwargs) if isinstance(leaf, DeviceTensor))
        return mode.run(func, args, kwargs or {})

    def tolist(self) -> Any:
        return self.mode.to_host(self, "tolist").tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() first.")

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        self.numpy()

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def untyped_storage(self) -> Any:
        return self.inner.untyped_storage()

    def __repr__(self, **named: Any) -> str:  # type: ignore[override]
        return f"DeviceTensor({self.inner!r}, device={self.device})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Saved as what it holds, for which the host waits."""
        return self.mode.to_host(self, "save").__reduce_ex__(protocol)

    def __deepcopy__(self, memo: Any) -> DeviceTensor:
        return memo.setdefault(id(self), self.detach().clone().requires_grad_(self.requires_grad))


class DeviceMode(TorchDispatchMode):
    """Runs each operation on the data, refuses what CUDA refuses, counts what the host asks for, records captures."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counts()
        self.current = 0
        self.recording: Recording | None = None
        self.waits_refused = False
        self._pool: set[int] = set()
        self._pinned: weakref.WeakSet[Any] = weakref.WeakSet()
        self._late: list[tuple[Tensor, Tensor]] = []  # (host tensor, what the device will write there)
        self._sent: list[tuple[Tensor, Tensor]] = []  # (pinned source, what it held when it was sent)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(func, args, kwargs or {})

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """One operation, wherever its operands lie."""
        leaves = tensors_in(args, kwargs)
        asked = kwargs.get("device")
        asked = None if asked is None else torch.device(asked)
        here = [leaf for leaf in leaves if isinstance(leaf, DeviceTensor)]
        if not here and (asked is None or asked.type != "cuda"):
            return self._on_host(func, args, kwargs)
        self.counts.operations += 1
        rules.check_devices(func, leaves, rules.cpu_indices(func, args))
        self._check_pool(here)
        return self._on_device(func, args, kwargs, here, asked)

    def _on_host(self, func: Any, args: Any, kwargs: Any) -> Any:
        if func is rules.aten._pin_memory.default:
            self._refuse_in_capture("pinned memory is allocated")
            pinned = args[0].clone()
            self._pinned.add(pinned.untyped_storage())
            return pinned
        if func is rules.aten.is_pinned.default:
            return args[0].untyped_storage() in self._pinned
        return func(*args, **kwargs)

    def _on_device(
        self, func: Any, args: Any, kwargs: Any, here: list[DeviceTensor], asked: torch.device | None
    ) -> Any:
        name = func._schema.name.partition("::")[2]
        if func in rules.HOST_READS:
            self._wait(name)
            self.counts.launch(name)
            return func(*mapped(self._data, args), **kwargs)
        if func in rules.COPIES and self._crosses(func, args, asked):
            return self._copy(func, args, kwargs, asked)
        if rules.cpu_indices(func, args) or rules.waits_for_size(func, args):
            self._wait(name)
        if rules.launches(func):
            self.counts.launch(name)
        device = asked if asked is not None and asked.type == "cuda" else here[0].device
        given = mapped(self._data, args), mapped(self._data, {**kwargs, **({"device": _CPU} if asked else {})})
        if self.recording is not None:
            self._refuse_in_capture("random numbers are drawn", kwargs.get("generator") is not None)
        out = func(*given[0], **given[1])
        if self.recording is not None:
            self.recording.add(func, *given, out)
        return self._wrapped(out, device, here)

    def _wrapped(self, out: Any, device: torch.device, here: list[DeviceTensor]) -> Any:
        """Results as tensors of the device; an operand that is its own result is given back itself."""
        own = {id(leaf.inner): leaf for leaf in here}
        device = torch.device("cuda", self.current if device.index is None else device.index)

        def wrap(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            return own[id(value)] if id(value) in own else DeviceTensor(value, device, self)

        return mapped(wrap, out)

    def _data(self, value: Any) -> Any:
        if isinstance(value, DeviceTensor):
            return value.inner
        if self.recording is not None and isinstance(value, Tensor):
            return value.clone()  # a number of the host is baked into the kernel's arguments
        return value

    @staticmethod
    def _crosses(func: Any, args: Any, asked: torch.device | None) -> bool:
        """Whether a copy goes from one place to another."""
        if func is rules.aten.copy_.default:
            return bool(args[0].device != args[1].device)
        return asked is not None and asked.type != args[0].device.type

    def _copy(self, func: Any, args: Any, kwargs: Any, asked: torch.device | None) -> Any:
        """Between host and device, or between devices; blocking unless asked otherwise and, from the host, pinned."""
        in_place = func is rules.aten.copy_.default
        source = args[1] if in_place else args[0]
        to_host = not isinstance(args[0], DeviceTensor) if in_place else asked is not None and asked.type == "cpu"
        non_blocking = kwargs.get("non_blocking") or (in_place and len(args) > 2 and args[2])
        self._refuse_in_capture("host and device copy", to_host or source.device.type == "cpu")
        self.counts.launch("copy_to_host" if to_host else "copy_to_device")
        self.counts.copied_bytes += source.nbytes
        pinned = source.device.type == "cpu" and source.untyped_storage() in self._pinned
        free = non_blocking and (to_host or pinned or source.device.type == "cuda")
        if not free:
            self._wait("copy_to_host" if to_host else "copy_to_device")
        kwargs = {name: value for name, value in kwargs.items() if name not in ("device", "non_blocking")}
        if pinned and free:
            self._sent.append((source, source.clone()))
        if in_place:
            args[0].inner.copy_(self._data(source)) if not to_host else args[0].copy_(self._data(source))
            return args[0]
        copied = func(self._data(source), device=_CPU, **kwargs)
        copied = copied.clone() if copied is self._data(source) else copied
        if not to_host:
            assert asked is not None
            return self._wrapped(copied, asked, [])
        if free:  # what a host reads before the device has written it
            self._late.append((copied, copied.clone()))
            copied.fill_(_NOT_YET[copied.dtype.is_floating_point])
        return copied

    def to_host(self, tensor: DeviceTensor, name: str) -> Tensor:
        """A tensor's data, for which the host waits."""
        self._check_pool([tensor])
        self._wait(name)
        self.counts.operations += 1
        self.counts.launch("copy_to_host")
        self.counts.copied_bytes += tensor.inner.nbytes
        return tensor.inner

    def synchronize(self, name: str) -> None:
        """The host waits until the device is done."""
        self._wait(name)

    def _wait(self, name: str) -> None:
        self._refuse_in_capture(f"{name}: the host waits")
        if self.waits_refused:
            raise RefusedError(f"{name}: called a synchronizing CUDA operation")
        self.counts.wait(name)
        for host, written in self._late:
            host.copy_(written)
        sent, self._late, self._sent = self._sent, [], []
        for source, held in sent:
            if not torch.equal(source, held):
                raise RefusedError("pinned memory was written to before the device had read it")

    def _refuse_in_capture(self, what: str, really: bool = True) -> None:
        if self.recording is not None and really:
            raise RefusedError(f"{what}: operation not permitted when stream is capturing")

    def capture_began(self) -> None:
        self._refuse_in_capture("another capture")
        self.recording = Recording()
        self.counts.captures += 1

    def capture_ended(self) -> Recording:
        assert self.recording is not None
        done, self.recording = self.recording, None
        self._pool |= done.pool.keys()
        return done

    def graph_forgotten(self, recording: Recording) -> None:
        self._pool -= recording.pool.keys()

    def replay(self, recording: Recording) -> None:
        self._refuse_in_capture("a graph is replayed")
        self.counts.operations += 1
        self.counts.launch("graph")
        with _disable_current_modes():
            recording.replay()

    def _check_pool(self, here: list[DeviceTensor]) -> None:
        if self.recording is None and self._pool:
            for tensor in here:
                if address(tensor.inner) in self._pool:
                    raise RefusedError("memory of a graph's pool is read outside of it: any replay may overwrite it")


_CPU = torch.device("cpu")
_NOT_YET = {True: float("nan"), False: 113}
