"""A function of one array on a device: fixed buffers, its own stream, replayed as a CUDA graph.

On a CUDA device a call costs one copy up and one launch, however many kernels the function has.
On the CPU the function is called as it is, from the same buffers.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from av_grounding.backends.machine import memory_advice

MAX_SHAPES = 4
"""Shapes of input whose buffers and graphs are kept; the longest unused goes."""
NUM_WARM_UP = 3
"""Calls before a graph is captured: compilers tune and libraries allocate in the first ones."""

Function = Callable[[Tensor], Tensor]

_capturing = threading.Lock()
"""Lanes take turns: tuning kernels and beginning a capture wait for the whole device, which is
forbidden while any stream is being captured."""


@dataclass(frozen=True)
class Result:
    """A tensor and when it is there: None where it is there already."""

    tensor: Tensor
    ready: torch.cuda.Event | None = None

    def wait(self) -> Tensor:
        """The tensor, for work that is queued after this on the current stream."""
        if self.ready is not None:
            stream = torch.cuda.current_stream(self.tensor.device)
            stream.wait_event(self.ready)
            # Its memory must not be given to anyone else before this stream is done with it.
            self.tensor.record_stream(stream)
        return self.tensor

    def numpy(self) -> np.ndarray:
        """The tensor of a lane that ends on the host, after waiting for it."""
        if self.ready is not None:
            self.ready.synchronize()
        return self.tensor.numpy()


class CudaGraphRunner:
    """Calls of one function per shape, in order; threads take turns.

    `function_for` is asked once for each new shape, and the function it gives takes a tensor of
    that shape and the array's type on `device`. It is kept as long as the shape's buffers: a CUDA
    graph reads the memory of its weights without holding it. Each call's result is a tensor of its
    own, so that it outlives the next call. With `is_captured`, the function is recorded once per
    shape as a CUDA graph; it must then not synchronise.
    """

    def __init__(
        self,
        function_for: Callable[[tuple[int, ...]], Function],
        device: torch.device,
        *,
        is_captured: bool = True,
        ends_on_host: bool = False,
        max_shapes: int = MAX_SHAPES,
        name: str = "encoding",
    ) -> None:
        self.device, self.max_shapes, self.name = device, max_shapes, name
        self._function_for = function_for
        self.ends_on_host = ends_on_host
        self.is_captured = is_captured and device.type == "cuda"
        self._slots: OrderedDict[tuple, _Slot] = OrderedDict()
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._lock = threading.Lock()

    def __call__(self, array: np.ndarray) -> Result:
        """Queue the function on `array`, which may be changed as soon as this returns."""
        with self._lock:
            slot = self._slot(array)
            with torch.inference_mode():
                if self._stream is None:
                    slot.host.copy_(torch.from_numpy(array))
                    return Result(slot.function(slot.host))
                return self._call_on_gpu(slot, array)

    def durations_ms(self, array: np.ndarray, num_calls: int) -> list[float]:
        """Milliseconds that each of `num_calls` takes on the device, without the copies."""
        self(array)
        with self._lock, torch.inference_mode():
            slot = self._slot(array)
            run = slot.graph.replay if slot.graph is not None else slot.function
            arguments = () if slot.graph is not None else (slot.input,)
            return call_durations_ms(lambda: run(*arguments), self.device, num_calls, self._stream)

    @property
    def num_shapes(self) -> int:
        return len(self._slots)

    def _call_on_gpu(self, slot: _Slot, array: np.ndarray) -> Result:
        # The copy up of the call before may still be reading the buffer.
        slot.uploaded.synchronize()
        slot.host.copy_(torch.from_numpy(array))
        with memory_advice(self.name), torch.cuda.stream(self._stream):
            slot.input.copy_(slot.host, non_blocking=True)
            slot.uploaded.record()
            if slot.graph is None and self.is_captured:
                with _capturing:
                    self._capture(slot)
            if slot.graph is not None:
                slot.graph.replay()
                # The graph writes the same memory in every replay.
                output = slot.output if self.ends_on_host else slot.output.clone()
            else:
                output = slot.function(slot.input)
            if self.ends_on_host:
                output = _copy_down(output)
            ready = torch.cuda.Event()
            ready.record()
        return Result(output, ready)

    def _capture(self, slot: _Slot) -> None:
        for _ in range(NUM_WARM_UP):
            slot.function(slot.input)
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Threads that only compute may use the device meanwhile.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            slot.output = slot.function(slot.input)
        slot.graph = graph

    def _slot(self, array: np.ndarray) -> _Slot:
        key = (array.shape, array.dtype.str)
        if key not in self._slots:
            while len(self._slots) >= self.max_shapes:
                if self._stream is not None:
                    self._stream.synchronize()
                self._slots.popitem(last=False)
            with memory_advice(self.name):
                function = self._function_for(array.shape)
                self._slots[key] = _Slot(function, array, self.device)
        self._slots.move_to_end(key)
        return self._slots[key]


class _Slot:
    """The function and the buffers of one shape."""

    def __init__(self, function: Function, array: np.ndarray, device: torch.device) -> None:
        self.function = function
        like = torch.from_numpy(array)
        is_gpu = device.type == "cuda"
        self.host = torch.empty(like.shape, dtype=like.dtype, pin_memory=is_gpu)
        self.input = torch.empty_like(self.host, device=device) if is_gpu else self.host
        self.uploaded = torch.cuda.Event() if is_gpu else None
        self.graph: torch.cuda.CUDAGraph | None = None
        self.output: Tensor | None = None


def call_durations_ms(
    call: Callable[[], Any],
    device: torch.device,
    num_calls: int,
    stream: torch.cuda.Stream | None = None,
) -> list[float]:
    """Milliseconds of each call: by events on a CUDA stream, by the clock on the CPU."""
    if device.type != "cuda":
        durations = []
        for _ in range(num_calls):
            began = time.perf_counter()
            call()
            durations.append(1e3 * (time.perf_counter() - began))
        return durations
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(num_calls + 1)]
    with torch.cuda.stream(stream):
        marks[0].record()
        for mark in marks[1:]:
            call()
            mark.record()
    torch.cuda.synchronize(device)
    return [before.elapsed_time(after) for before, after in pairwise(marks)]


def _copy_down(output: Tensor) -> Tensor:
    """The tensor in page-locked memory of its own, once the current stream has come so far."""
    host = torch.empty(output.shape, dtype=output.dtype, pin_memory=True)
    return host.copy_(output, non_blocking=True)
