"""The compiled neuron passes: Loihi's integers and SLAYER's neuron bit for bit, autograd's gradients."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from spikegate.neurons.cuba import Cuba
from spikegate.train.backends import kernels
from spikegate.train.layers.base import Moment, Twin
from spikegate.train.layers.conv import SpikingConv
from spikegate.train.layers.dynamics import MANT, STATE, neurons
from spikegate.train.layers.folding import FoldedNorm
from spikegate.train.layers.slayer_import import slayer

torch.set_num_threads(1)
MODES = (kernels.RUNS, kernels.HELD, kernels.IDLE)
STEPS, ROWS, CHANNELS = 4, 5, 3
case = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**32 - 1)
words = st.lists(st.sampled_from(MODES), min_size=STEPS, max_size=STEPS)


@contextmanager
def shared(threads):
    """The passes are shared by so many threads, however small they are."""
    large, kernels.LARGE = kernels.LARGE, 1 if threads > 1 else kernels.LARGE
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        kernels.LARGE = large
        torch.set_num_threads(1)


def integer_reference(currents, bias, neuron, modes, waits):
    """Spikes and voltages of `spikegate.neurons.cuba.Cuba` [T, rows, channels], timestep by timestep, by the masks' definitions."""
    state, out = neuron.state(currents.shape[1:]), np.zeros_like(currents)
    for t, current in enumerate(currents):
        if modes[t] == kernels.IDLE:
            continue
        before = state["v"].copy()
        out[t] = neuron.step(state, current, bias, None, np.full(len(current), modes[t] == kernels.HELD))
        state["v"][waits[t]] = before[waits[t]]
    return out, state["v"]


@case
@given(seeds, st.sampled_from([0, 2048, 4096]), st.integers(1, 4095), words, st.data())
def test_exact_neurons_equal_the_integer_neuron(seed, decay, vth, modes, data):
    """Property: spikes, their number and voltages for any integer currents, biases, words, waiting and dead tokens; also where the
    currents are one map for all timesteps."""
    rng = np.random.default_rng(seed)
    waits, alive = rng.random((STEPS, ROWS)) < 0.3, (rng.random((STEPS, ROWS)) < 0.7).astype(np.float32)
    unit = data.draw(st.sampled_from([1, 2, 8]), "mantissas per unit of x")
    x, bias = rng.integers(-4000, 4000, (STEPS, ROWS, CHANNELS)), rng.integers(-500, 500, CHANNELS)
    expanded = data.draw(st.booleans(), "expanded")
    x = np.broadcast_to(x[:1], x.shape) if expanded else x
    step, levels = data.draw(st.sampled_from([(0, 1), (0, 1), (vth, 1), (30, 1), (vth, 6), (300, 3)]), "soft reset")
    neuron = Cuba(4096, decay, vth, "subtract", step, levels) if step else Cuba(4096, decay, vth)
    spikes, v = integer_reference(x * unit, bias, neuron, modes, waits)
    given_x = torch.tensor(x[:1] if expanded else x, dtype=torch.float32).expand(STEPS, -1, -1)
    with shared(data.draw(st.sampled_from([1, 2, 7]), "threads")):
        ours, state, count = neurons(
            given_x, None, decay, vth / MANT, True, scale=torch.tensor([unit / MANT]), shift=torch.tensor(bias).float() / MANT,
            alive=torch.tensor(alive), modes=modes, waits=torch.tensor(waits), step=step / MANT, levels=levels,
        )  # fmt: skip
    assert np.array_equal(ours.numpy(), spikes * alive[..., None])
    assert np.array_equal(state.numpy() * STATE, v)
    assert count == (spikes * alive[..., None]).sum()


@case
@given(seeds, st.sampled_from([2048, 4096]), st.sampled_from([0.5, 1.0, 8.0, 32.0]))
def test_exact_neurons_equal_slayers_neuron(seed, decay, threshold):
    """Property: same parameters, same spikes as ``slayer.neuron.cuba.Neuron`` in its own int64 arithmetic."""
    rng = np.random.default_rng(seed)
    x = torch.tensor(rng.integers(-int(96 * threshold), int(160 * threshold), (7, ROWS, CHANNELS))).float() / MANT
    theirs = slayer.neuron.cuba.Neuron(threshold, 1.0, decay / STATE)(x.permute(1, 2, 0))
    ours = neurons(x, None, decay, threshold, True)[0]
    assert torch.equal(ours, theirs.permute(2, 0, 1))


@case
@given(seeds, st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_chunks_carry_their_voltage(seed, lengths):
    """Property: any division of the timesteps into chunks gives the same bits."""
    x = torch.tensor(np.random.default_rng(seed).integers(-200, 400, (sum(lengths), ROWS, CHANNELS))).float() / MANT
    whole, last, _ = neurons(x, None, 2048, 3.0, True)
    v, parts = None, []
    for part in x.split(lengths):
        spikes, v, _ = neurons(part, v, 2048, 3.0, True)
        parts.append(spikes)
    assert torch.equal(torch.cat(parts), whole) and torch.equal(v, last)


class Spike(torch.autograd.Function):
    """``u > theta``; backward, the arctan of width theta as published: (alpha / 2 theta) / (1 + (pi / 2 * alpha (u - theta) / theta)^2)."""

    @staticmethod
    def forward(ctx, u, theta, alpha):
        ctx.save_for_backward(u)
        ctx.constants = theta, alpha
        return (u > theta).to(u.dtype)

    @staticmethod
    def backward(ctx, grad):
        (u,), (theta, alpha) = ctx.saved_tensors, ctx.constants
        return grad * (alpha / 2 / theta) / (1 + (np.pi / 2 * alpha * (u - theta) / theta) ** 2), None, None


def autograd_reference(x, v, keep, theta, scale, shift, alive, modes, waits, norm=None, step=0.0, levels=1):
    """`neurons` in plain torch, float64, a loop over time; third, the smallest distance of a voltage from the threshold."""
    if norm is not None:
        flat = x.reshape(-1, x.shape[-1])
        mean, var = flat.mean(0), flat.var(0, unbiased=False)
        x = (x - mean) / torch.sqrt(var + norm.eps)
    out, near = [], np.inf
    for t in range(len(x)):
        u = v * keep + x[t] * scale + shift
        near = min(near, *(float((u.detach() - theta - k * step).abs().min()) for k in range(levels)))
        s = sum(Spike.apply(u - k * step, theta, 2.0) for k in range(levels))
        after = u - step * s.detach() if step else u * (1 - s.detach())
        if modes[t] == kernels.HELD:
            s, after = torch.zeros_like(s), u
        if modes[t] == kernels.IDLE:
            s, after = torch.zeros_like(s), v
        v = torch.where(waits[t].unsqueeze(-1), v, after)
        out.append(s * alive[t].unsqueeze(-1))
    return torch.stack(out), v, near


def leaves(dtype, **arrays):
    return {k: torch.tensor(a, dtype=dtype, requires_grad=True) for k, a in arrays.items()}


@case
@given(
    seeds, st.sampled_from([0, 2048, 4096]), st.booleans(), st.booleans(), words, st.sampled_from([(0, 1), (1.5, 1), (0.8, 3)]),
    st.sampled_from([1, 2, 7]),
)  # fmt: skip
def test_gradients_equal_autograd(seed, decay, batch_statistics, expanded, modes, soft, threads):
    """Property: the gradients for currents, first voltage, scale, shift and alive, from those of spikes, last voltage and count."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 2, (1 if expanded else STEPS, ROWS, CHANNELS))
    arrays = {
        "x": x, "v": rng.normal(0, 1, (ROWS, CHANNELS)), "scale": rng.uniform(0.5, 2, CHANNELS), "shift": rng.normal(0.5, 0.5, CHANNELS),
        "alive": (rng.random((STEPS, ROWS)) < 0.7).astype(float),
    }  # fmt: skip
    waits, theta = torch.tensor(rng.random((STEPS, ROWS)) < 0.3), 1.5
    to_s, to_v = rng.normal(size=(STEPS, ROWS, CHANNELS)), rng.normal(size=(ROWS, CHANNELS))
    norm = FoldedNorm(CHANNELS, 1.0) if batch_statistics else None
    plain, ours = leaves(torch.float64, **arrays), leaves(torch.float32, **arrays)

    def loss(s, v, count):
        return (s * torch.tensor(to_s, dtype=s.dtype)).sum() + (v * torch.tensor(to_v, dtype=s.dtype)).sum() + 0.3 * count

    wide = plain["x"].expand(STEPS, -1, -1)
    own = (plain[k] for k in ("scale", "shift", "alive"))
    s0, v0, near = autograd_reference(wide, plain["v"], 1 - decay / STATE, theta, *own, modes, waits, norm, *soft)
    assume(near > 1e-4)  # float32 then decides as float64 does
    loss(s0, v0, s0.sum()).backward()
    with shared(threads):
        s1, v1, count = neurons(
            ours["x"].expand(STEPS, -1, -1), ours["v"], decay, theta, False, modes=modes, waits=waits, norm=norm, step=soft[0],
            levels=soft[1], **{k: ours[k] for k in ("scale", "shift", "alive")},
        )  # fmt: skip
        loss(s1, v1, count).backward()
    assert torch.equal(s0.float(), s1) and torch.allclose(v0.float(), v1, atol=1e-4)
    for name in arrays:
        expected = torch.zeros_like(plain[name]) if plain[name].grad is None else plain[name].grad  # None: no timestep runs
        assert torch.allclose(ours[name].grad.double(), expected, rtol=2e-3, atol=2e-4), name
    if norm is not None:
        flat = wide.detach().reshape(-1, CHANNELS)
        assert torch.allclose(norm.mean.double(), 0.1 * flat.mean(0), atol=1e-5)
        assert torch.allclose(norm.var.double(), 0.9 + 0.1 * flat.var(0), atol=1e-5)


@case
@given(seeds, words, st.sampled_from([(0, 1), (0.8, 3)]), st.sampled_from([1, 3]))
def test_what_nobody_reads_changes_nothing(seed, modes, soft, threads):
    """Property: no first voltage is a first voltage of 0, and spikes and gradients are the same where no last voltage is wanted."""
    rng = np.random.default_rng(seed)
    to = torch.tensor(rng.normal(size=(STEPS, ROWS, CHANNELS)), dtype=torch.float32)
    kept = {"scale": rng.uniform(0.5, 2, CHANNELS), "x": rng.normal(0, 2, (STEPS, ROWS, CHANNELS))}
    found = []
    for v, keep_v in ((torch.zeros(ROWS, CHANNELS, requires_grad=True), True), (None, True), (None, False)):
        own = leaves(torch.float32, **kept)
        with shared(threads):
            spikes, last, count = neurons(
                own["x"], v, 2048, 1.5, False, scale=own["scale"], modes=modes, step=soft[0], levels=soft[1], keep_v=keep_v
            )
            ((spikes * to).sum() + count).backward()
        assert (last is None) == (not keep_v)
        found.append([spikes, count, own["x"].grad, own["scale"].grad, *([last] if keep_v else [])])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other))


@pytest.mark.parametrize("training", [True, False])
def test_a_float_layer_equals_its_batch_norm_form(training):
    """Convolution, torch's own batch norm, loop over time: same spikes and gradients with batch statistics and running ones."""
    torch.manual_seed(3)
    layer = SpikingConv(4, 6, 3, (5, 5))
    layer.name = "layer"
    layer.norm.var.fill_(0.05)
    layer.norm.beta.data.fill_(layer.block.neuron.threshold / 3)
    layer.train(training)
    x = (torch.rand(STEPS, 2, 25, 4) < 0.4).float()
    weights = torch.randn(STEPS, 2, 25, 6)
    mean, var = layer.norm.mean.double(), layer.norm.var.double()
    ours = run(layer, x)
    (ours * weights).sum().backward()
    parameters = {"w": layer.weight, "gamma": layer.norm.gamma, "beta": layer.norm.beta}
    own = {name: p.detach().double().requires_grad_() for name, p in parameters.items()}
    y = F.conv2d(x.double().reshape(-1, 5, 5, 4).permute(0, 3, 1, 2), own["w"], padding=1)
    y = F.batch_norm(y, mean, var, own["gamma"], own["beta"], training, 0.1, layer.norm.eps)
    y = y.flatten(2).transpose(1, 2).unflatten(0, (STEPS, 2))
    v, parts = torch.zeros_like(y[0]), []
    for current in y:
        u = 0.5 * v + current
        parts.append(Spike.apply(u, layer.block.neuron.threshold, 2.0))
        v = u * (1 - parts[-1].detach())
    theirs = torch.stack(parts)
    assert torch.equal(theirs.float(), ours) and 0.02 < float(ours.mean()) < 0.98
    (theirs * weights).sum().backward()
    found = {"w": layer.block.synapse.weight.grad.squeeze(-1), "gamma": layer.norm.gamma.grad, "beta": layer.norm.beta.grad}
    for name, grad in found.items():
        assert torch.allclose(grad.double(), own[name].grad, rtol=1e-3, atol=1e-4), name
    if training:
        assert torch.allclose(layer.norm.mean.double(), mean, atol=1e-5) and torch.allclose(layer.norm.var.double(), var, atol=1e-5)


def run(layer: Twin, x: torch.Tensor) -> torch.Tensor:
    layer.prepare()
    return layer({"x": [x]}, Moment(1, len(x), len(x)))
