"""Whole training steps on a GPU that is not there: tensors without values that say they are on one, kernels compiled for sm_90, none run.

    python -m tests.gpu_standin conf/published/at-snn-4-384.yml model.dim=384 train.precision=float16

It runs the code of train/ that a GPU would see, so a kernel that does not compile, operands on two devices, gradients of a wrong type
or a value that the host waits for (which no CUDA graph can hold) end it with an error. Prints one JSON line for each phase.
"""

from __future__ import annotations

import collections
import inspect
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from triton.backends.compiler import GPUTarget
from triton.runtime import driver, jit

from spikegate.train import models
from spikegate.train.optimize import fuse, make_optimizer
from spikegate.train.settings.config import merge
from spikegate.train.settings.options import from_mapping, nested, read_yaml
from spikegate.train.step import Step

GPU = torch.device("cuda", 0)
SHARED = 232_448  # bytes of shared memory that a program may have there
compiled: collections.Counter[str] = collections.Counter()


class Driver:
    """What Triton asks of a GPU's driver to compile for it."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int | None = None) -> int:
        return 0


def compile_only(real: Any) -> Any:
    """`JITFunction.run` that compiles and does not launch."""

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        given = []
        for a in args:
            if isinstance(a, torch.Tensor):
                assert a.device == GPU, f"{self.fn.__name__}: an operand on {a.device}"
                a = jit.MockTensor(a.dtype)
            given.append(a)
        kernel = real(self, *given, grid=grid, warmup=True, **options)
        assert kernel.metadata.shared <= SHARED, f"{self.fn.__name__}: {kernel.metadata.shared} bytes of shared memory"
        compiled[self.fn.__name__] += 1
        return kernel

    return run


class Crossings(TorchDispatchMode):
    """Counts copies between the host and the GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if "copy" in str(func):
            kinds = {t.device.type for t in (*args, out) if isinstance(t, torch.Tensor)}
            self.found += [str(func)] if len(kinds) > 1 else []
        return out


def backward(loss: torch.Tensor, *_: Any) -> None:
    """Autograd's pass in plain Python: its engine would ask for streams of the GPU."""
    waiting: dict[Any, dict[int, torch.Tensor]] = {loss.grad_fn: {0: torch.ones_like(loss)}}
    for node in reversed(_ordered(loss.grad_fn)):
        have = waiting.pop(node, None)
        if have is None:
            continue
        if type(node).__name__ == "AccumulateGrad":
            p, grad = node.variable, have[0]
            assert (grad.dtype, grad.device, grad.shape) == (p.dtype, p.device, p.shape), (grad, p.shape)
            p.grad = grad if p.grad is None else p.grad + grad
            continue
        made = getattr(type(node), "_forward_cls", None)
        known = node._input_metadata
        given = [have.get(k) for k in range(len(known))]
        if made is None:
            out, nexts = node(*given), node.next_functions
            out = out if isinstance(out, tuple) else (out,)
        else:
            if "set_materialize_grads(False)" not in inspect.getsource(made.forward):
                given = [torch.zeros(m.shape, dtype=m.dtype, device=m.device) if g is None else g for g, m in zip(given, known)]
            out = made.backward(node, *given)
            out = [g for g, need in zip(out if isinstance(out, tuple) else (out,), node.needs_input_grad) if need]
            nexts = [e for e in node.next_functions if e[0] is not None]
        for (after, slot), grad in zip(nexts, out):
            if after is not None and grad is not None:
                want = after._input_metadata[slot]
                assert grad.device == want.device, (node, grad.device)
                grad = grad.to(want.dtype).sum_to_size(want.shape)
                held = waiting.setdefault(after, {})
                held[slot] = held[slot] + grad if slot in held else grad


def _ordered(root: Any) -> list[Any]:
    """Nodes of a graph, each after all that it leads to."""
    order, seen, stack = [], {root}, [(root, 0)]
    while stack:
        node, k = stack.pop()
        if k == len(node.next_functions):
            order.append(node)
            continue
        stack.append((node, k + 1))
        after = node.next_functions[k][0]
        if after is not None and after not in seen:
            seen.add(after)
            stack.append((after, 0))
    return order


def main(config_path: str, *changes: str) -> None:
    driver.set_active(Driver())
    jit.JITFunction.run = compile_only(jit.JITFunction.run)
    torch.Tensor.backward = backward  # type: ignore[method-assign, assignment]
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    given = nested({k: json.loads(v) if v[0] in "0123456789" else v for k, v in (c.split("=") for c in changes)})
    config = from_mapping(merge(read_yaml(Path(config_path)), given))
    net = models.build(config.model, (3, 32, 32), 10, 255)
    _ = net.layout  # reads the net's integers, once
    net.set_precision(config.train.precision)
    with FakeTensorMode(allow_non_fake_inputs=True):
        net.to(GPU)
        optimizer = make_optimizer(net, config.train)
        fuse(optimizer, GPU)
        optimizer.step = lambda: None  # type: ignore[method-assign, assignment]
        step = Step(net, optimizer, config.train, None, GPU)
        x = torch.zeros(config.train.batch_size, 3, 32, 32, dtype=torch.uint8, device=GPU)
        y = torch.zeros(len(x), dtype=torch.long, device=GPU)
        for phase in ("float", "deployed"):
            net.set_phase(phase)
            net.train()
            step._run(x, y, len(x))  # tables that are made once
            with Crossings() as crossings:
                row = step._run(x, y, len(x))
            idle = [n for n, p in net.named_parameters() if p.requires_grad and p.grad is None]
            net.eval()
            with torch.no_grad():
                net(x)
            print(json.dumps({"phase": phase, "device": str(row.device), "crossings": crossings.found, "no_gradient": idle,
                              "kernels": dict(compiled)}), flush=True)  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
