"""Each backend computes what the definition says: to the bit where the chip's integers are carried, to rounding elsewhere, gradients too.

Triton's passes run in its interpreter (tests/conftest.py asks for it where there is no GPU), so cases are small.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spikegate.train.backends.choose import named, using
from spikegate.train.backends.seam import HELD, IDLE, RUNS
from spikegate.train.layers.dynamics import MANT, neurons
from spikegate.train.layers.folding import FoldedNorm
from spikegate.train.layers.products import ExactProduct, map_conv
from tests.test_layers import NETS, lively

torch.set_num_threads(1)
pytest.importorskip("triton")
OTHERS = ("compiled", "triton")
STEPS, ROWS, CHANNELS = 4, 7, 6
FORMS = {
    "plain": {},
    "scaled": {"scale": True, "shift": True},
    "one scale": {"scale": "one"},
    "norm": {"norm": True},
    "one map": {"expanded": True, "scale": "one", "shift": True},
    "dead tokens": {"alive": True, "shift": True},
    "words": {"modes": (RUNS, HELD, IDLE, RUNS), "alive": True},
    "waiting": {"waits": True, "alive": True, "shift": True},
    "waiting words": {"waits": True, "modes": (HELD, RUNS, RUNS, IDLE), "alive": True, "norm": True},
    "chunk": {"v": True, "shift": True},
    "soft reset": {"step": 4.0, "shift": True, "alive": True, "modes": (RUNS, HELD, RUNS, IDLE)},
    "soft reset, several spikes": {"step": 1.5, "levels": 3, "v": True, "alive": True, "waits": True},
}


def case(form: dict, exact: bool) -> dict:
    """Integer currents and the rest that `neurons` takes; leaves that want gradients."""
    rng = np.random.default_rng(3)
    kind = {"dtype": torch.float32}
    x = torch.tensor(rng.integers(-300, 400, (1 if form.get("expanded") else STEPS, ROWS, CHANNELS)) / MANT, **kind)
    given: dict = {"x": x.requires_grad_(), "exact": exact}
    if form.get("v"):
        given["v"] = torch.tensor(rng.integers(-9000, 9000, (ROWS, CHANNELS)) / 4096, **kind).requires_grad_()
    if form.get("norm"):
        given["norm"] = FoldedNorm(CHANNELS, gain=2.0)
        given["scale"], given["shift"] = given["norm"].gamma, given["norm"].beta
        given["norm"].beta.data += torch.linspace(0.1, 1, CHANNELS)
    elif form.get("scale"):
        scale = torch.full((1,), 0.5) if form["scale"] == "one" else torch.tensor([0.5, 1, 2, 0.25, 1, 4])
        given["scale"] = scale.requires_grad_()
    if form.get("shift") and not form.get("norm"):
        given["shift"] = torch.tensor(rng.integers(-64, 64, CHANNELS) / MANT, **kind).requires_grad_()
    if form.get("alive"):
        given["alive"] = torch.tensor(rng.random((STEPS, ROWS)) < 0.7, **kind).requires_grad_()
    if form.get("waits"):
        given["waits"] = torch.tensor(rng.random((STEPS, ROWS)) < 0.3)
    given |= {k: form[k] for k in ("modes", "step", "levels") if k in form}
    return given


def run(backend: str, form: dict, exact: bool) -> tuple[list, list, FoldedNorm | None]:
    given = case(form, exact)
    x = given["x"].expand(STEPS, -1, -1) if form.get("expanded") else given["x"]
    more = {k: given.get(k) for k in ("scale", "shift", "norm", "alive", "waits", "modes")}
    more |= {k: given[k] for k in ("step", "levels") if k in given}
    with using(backend):
        spikes, v, count = neurons(x, given.get("v"), 2048, 4.0, exact, **more)
        rng = np.random.default_rng(5)
        weights = [torch.tensor(rng.normal(size=t.shape), dtype=torch.float32) for t in (spikes, v)]
        ((spikes * weights[0]).sum() + (v * weights[1]).sum() + 0.3 * count).backward()
    wanted = [given[k] for k in ("x", "v", "scale", "shift", "alive") if given.get(k) is not None]
    return [spikes.detach(), v.detach(), count.detach()], [t.grad for t in wanted], given.get("norm")


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("backend", OTHERS)
def test_neurons_equal_the_definition(backend, form, exact):
    (values, grads, norm), (ours, our_grads, our_norm) = (run(b, FORMS[form], exact) for b in ("torch", backend))
    assert 0 < values[2] < STEPS * ROWS * CHANNELS
    to_the_bit = exact and norm is None
    for want, have in zip(values, ours):
        assert torch.equal(want, have) if to_the_bit else torch.allclose(want, have, rtol=1e-4, atol=1e-4)
    for want, have in zip(grads, our_grads):
        assert want.norm() > 0 and torch.allclose(want, have, rtol=1e-3, atol=1e-4 * float(want.abs().max()))
    if norm is not None and our_norm is not None:
        assert torch.allclose(norm.mean, our_norm.mean, atol=1e-6) and torch.allclose(norm.var, our_norm.var, rtol=1e-5)


def both(backend: str, make, call) -> None:
    """`call(backend, *make())` equals the definition's, gradients too."""
    found = []
    for name in ("torch", backend):
        leaves = [t.requires_grad_() if t.is_floating_point() else t for t in make()]
        out = call(named(name), *leaves)
        weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
        (out * weight).sum().backward()
        found.append((out.detach(), [t.grad for t in leaves if t.is_floating_point()]))
    (want, want_grads), (have, have_grads) = found
    assert torch.equal(want, have) and want.unique().numel() > 1
    for a, b in zip(want_grads, have_grads):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5) and a.norm() > 0


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("kernel, stride, padding", [(3, 2, 1), (2, 2, 0), (3, 1, 1)])
def test_pooling_equals_the_definition(backend, kernel, stride, padding):
    bits = (torch.rand(2, 3, 30, 4, generator=torch.Generator().manual_seed(0)) < 0.1).float()
    both(backend, lambda: [bits.clone()], lambda b, x: b.pool(x, (5, 6), kernel, stride, padding))


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("tokens, width", [(5, 16), (36, 4)])
def test_attention_equals_the_definition(backend, tokens, width):
    g = torch.Generator().manual_seed(0)
    bits = [(torch.rand(2, 2, tokens, 2 * width, generator=g) < 0.4).float() for _ in "qkv"]
    both(backend, lambda: [m.clone() for m in bits], lambda b, q, k, v: b.attend(q, k, v, 2))


@pytest.mark.parametrize("backend", OTHERS)
def test_counts_levels_and_tables_equal_the_definition(backend):
    g = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 5, (3, 7), generator=g).float()
    both(backend, lambda: [counts.clone()], lambda b, n: b.reached(n, 2, 1.0))
    currents = 6 * torch.randn(2, 5, 6, generator=g)
    both(backend, lambda: [currents.clone()], lambda b, x: b.levels(x, 0.5, -3, 7, None))
    both(backend, lambda: [torch.arange(5.0) ** 2], lambda b, table: b.lookup(table, counts))


@pytest.mark.parametrize("stride, kernel", [(1, 1), (1, 3), (2, 3)])
def test_exact_products_are_the_convolution(stride, kernel):
    """The form that a GPU runs once deployed, in float32 and with 16-bit operands: to the bit."""
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.integers(0, 3, (2, 30, 8)), dtype=torch.float32)
    w = torch.tensor(2 * rng.integers(-127, 128, (6, 8, kernel, kernel)) / MANT, dtype=torch.float32)
    want_x, want_w = x.clone().requires_grad_(), w.clone().requires_grad_()
    want = map_conv(want_x, want_w, None, (5, 6), stride, kernel // 2)
    g = torch.randn(want.shape, generator=torch.Generator().manual_seed(0))
    want.backward(g)
    for kind in (torch.float32, torch.bfloat16, torch.float16):
        have_x, have_w = x.clone().to(kind).requires_grad_(), w.clone().requires_grad_()
        have = ExactProduct.apply(have_x.reshape(-1, 5, 6, 8), have_w, stride, kernel // 2).flatten(1, 2)
        assert have.dtype == torch.float32 and torch.equal(have, want)
        have.backward(g)
        for a, b in ((want_x.grad, have_x.grad), (want_w.grad, have_w.grad)):
            assert (a - b.float()).norm() <= (1e-5 if kind == torch.float32 else 0.02) * a.norm()


# The interpreter is slow: each model once, and what only some variants have.
SOME = [p for p in NETS if not p.values[1] or p.id in ("at_snn-rectangle-merge", "msvit-halting-mask", "qkformer-membrane")]


@pytest.mark.parametrize("backend, name, change", [pytest.param(b, *p.values, id=f"{b}-{p.id}")
                                                   for b, nets in (("compiled", NETS), ("triton", SOME)) for p in nets])
def test_deployed_nets_are_equal_to_the_bit(backend, name, change):
    """Every kind of layer in its place: logits, exits, tokens; gradients to rounding."""
    net, x = lively(name, **change)
    net.set_phase("deployed")
    found = []
    for which in ("torch", backend):
        net.zero_grad()
        with using(which):
            out = net(x[:2])
            (out.logits.square().sum() + out.alive + out.activity).backward()
        found.append((out, [p.grad.clone() for p in net.parameters() if p.grad is not None]))
    (want, want_grads), (have, have_grads) = found
    assert torch.equal(want.steps, have.steps) and want.activity > 0
    assert torch.equal(want.exit_step, have.exit_step) and torch.allclose(want.alive, have.alive)
    assert torch.allclose(want.activity, have.activity)
    assert len(want_grads) == len(have_grads) > 5
    for a, b in zip(want_grads, have_grads):
        assert torch.allclose(a, b, rtol=2e-3, atol=1e-4 * max(1.0, float(a.abs().max())))


@pytest.mark.parametrize("name", sorted({p.values[0] for p in NETS}))
@pytest.mark.parametrize("backend", OTHERS)
def test_float_nets_agree(backend, name):
    """Batch statistics and float weights: a spike at the threshold may fall either way, so few may differ."""
    net, x = lively(name)
    net.set_phase("float")
    found = []
    for which in ("torch", backend):
        with using(which), torch.no_grad():
            found.append(net(x).steps)
    close = (found[0] - found[1]).abs() <= 0.02 * found[0].abs().max()
    assert close.float().mean() > 0.9
