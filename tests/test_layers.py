"""Torch twins: the same spikes as SLAYER's own blocks, as their ops, and gradients that reach what must learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikegate.engine import integer
from spikegate.graph.ir import COUNTERS, DeployError
from spikegate.neurons.cuba import Cuba
from spikegate.ops.base.patches import patches
from spikegate.train.layers.base import Moment
from spikegate.train.layers.biased import BiasEncoder
from spikegate.train.layers.conv import SpikingConv
from spikegate.train.layers.dynamics import MANT, STATE, neurons
from spikegate.train.layers.folding import FoldedNorm, integers
from spikegate.train.layers.slayer_import import slayer
from spikegate.train.layers.timestep_gate import TimestepMask
from spikegate.train.models import MODELS, build
from spikegate.train.models.halting import TokenHalting
from spikegate.train.settings.config import ModelConfig, merge
from spikegate.train.tracing import trace_net

torch.set_num_threads(1)


SMALL = {"dim": 16, "depth": 2, "heads": 4, "stem_channels": 8, "attention_threshold": 1, "embedding_levels": 2}


# Each model as it is, and every way to halt and merge tokens on both kinds of embedding.
RECTANGLE, MERGE, ALONE = {"halting": {"order": "rectangle"}}, {"merge": {"enabled": True, "delta": 3}}, {"halting": {"enabled": False}}
NETS = [pytest.param(name, {}, id=name) for name in MODELS] + [
    pytest.param(name, change, id=f"{name}-{label}")
    for name in ("at_snn", "stas")
    for label, change in {
        "rectangle": RECTANGLE,
        "serial-merge": MERGE,
        "rectangle-merge": {"halting": {"order": "rectangle", "beta": -4.0}} | MERGE,  # beta: so that something is left of the net
        "merge-alone": MERGE | ALONE,
        "halting-alone": {"merge": {"enabled": False}},
        "block": {"halting": {"order": "block"}},
        "time": {"halting": {"order": "time"}},
        "wide": {"halting": {"order": "rectangle", "width": 3, "beta": -5.0}},
    }.items()
]
# Tokens that leave the patch splitting, too: on strides and on pools, with neurons that are gated by masks as well.
LEAVING = {"halting": {"enabled": True, "embedding": True}, "merge": {"enabled": False}}
NETS += [
    pytest.param(name, merge(LEAVING, change), id=f"{name}-leaving-{label}")
    for name, label, change in (
        ("at_snn", "serial", {}),
        ("at_snn", "time", {"halting": {"order": "time"}}),
        ("spikformer", "rectangle", RECTANGLE),
        ("at_snn", "pooled", {"embedding": "published", "pooling": "or", "dim": 32}),
        ("dts_vit", "masks", {}),
    )
]
# The same policies on other backbones; any of them takes any that makes sense.
ALL = {"halting": {"enabled": True, "width": 4, "beta": -6.0}, "mask": {"enabled": True}}
NETS += [pytest.param(name, ALL, id=f"{name}-halting-mask") for name in ("stmixer", "spike_driven", "qkformer", "msvit", "at_snn")]
NETS += [
    pytest.param(name, merge({"halting": {"enabled": True, "width": 3, "beta": beta}}, change), id=f"{name}-{label}")
    for name, beta, kinds in (  # beta: so that tokens halt and something is left of the net
        ("spike_driven", -5.0, {"serial": {}, "rectangle": RECTANGLE, "subtract": {"reset": "subtract"}}),
        ("stmixer", -3.0, {"serial": {}, "rectangle": RECTANGLE}),
        ("msvit", -3.0, {"serial": {}}),
        ("qkformer", -3.0, {"serial": {}, "rectangle-merge": RECTANGLE | MERGE}),
        ("stas", -2.0, {"subtract": RECTANGLE | {"reset": "subtract"}}),
        ("qkformer", -6.0, {"membrane": RECTANGLE | {"residual": "membrane"}}),
    )
    for label, change in kinds.items()
]


def config(name: str, *, beta: float = -2.0, **change) -> ModelConfig:
    halting = {"beta": beta, **change.get("halting", {})}
    return ModelConfig(**merge({"name": name, **SMALL, "halting": halting}, change | {"halting": halting}))


def lively(name: str, **change):
    """A net in which every op spikes once deployed: random weights, statistics of float passes, biases that excite."""
    torch.manual_seed(4)
    net = build(config(name, **change), (1, 8, 8), 5, 16)
    x = torch.randint(0, 17, (6, 1, 8, 8), dtype=torch.uint8)
    net.set_phase("float")
    for _ in range(30):
        net(x)
    for module in net.modules():
        if isinstance(module, FoldedNorm):
            module.var.clamp_(min=float(module.gamma.detach().abs().max()) ** 2 / 9)  # keeps folded weights inside their 8 bits
            module.beta.data += module.gamma.data
        if isinstance(module, TimestepMask):
            module.score.data[1 if "fc1" in module.name else 2] = -1.0
    return net, x


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_lif_equals_the_integer_neuron(data):
    """Property: for any integer currents the torch kernel in its exact form and Loihi's integer neuron agree, state included."""
    steps, n = 5, 6
    currents = np.array(data.draw(st.lists(st.lists(st.integers(-9000, 9000), min_size=n, max_size=n), min_size=steps, max_size=steps)))
    decay = data.draw(st.sampled_from([0, 2048, 4096]))
    vth = data.draw(st.integers(1, 4095))
    step, levels = data.draw(st.sampled_from([(0, 1), (vth, 1), (2 * vth, 1), (17, 3), (400, 9)]))
    neuron = Cuba(4096, decay, vth, "subtract", step, levels) if step else Cuba(4096, decay, vth)
    state = neuron.state((n,))
    expected = np.stack([neuron.step(state, c, 0, None) for c in currents])
    form = {"step": step / MANT, "levels": levels}
    spikes, v, count = neurons(torch.tensor(currents, dtype=torch.float32) / MANT, torch.zeros(n), decay, vth / MANT, True, **form)
    assert count == expected.sum()
    assert np.array_equal(spikes.numpy(), expected)
    assert np.array_equal(v.numpy() * STATE, state["v"])


@pytest.mark.parametrize("kernel, stride", [(1, 1), (3, 1), (3, 2)])
def test_spiking_conv_equals_the_slayer_block(kernel, stride):
    """Bit-equal to ``slayer.block.cuba.Conv`` with the same (folded) parameters, bias through its neuron's norm."""
    torch.manual_seed(0)
    layer = SpikingConv(6, 8, kernel, (6, 6), stride)
    layer.norm.mean.normal_(std=0.2)
    layer.norm.var.fill_(0.05)
    layer.norm.beta.data.normal_(mean=1.0)
    layer.name, layer.phase = "layer", "deployed"
    layer.prepare()
    x = (torch.rand(5, 3, 36, 6) < 0.4).float()
    ours = layer({"x": [x]}, Moment(1, 5, 5))
    weight, bias = layer.folded()
    block = slayer.block.cuba.Conv(
        {"threshold": layer.block.neuron.threshold, "current_decay": 1.0, "voltage_decay": 0.5},
        6,
        8,
        kernel,
        stride=stride,
        padding=kernel // 2,
        delay_shift=False,
    )
    block.synapse.pre_hook_fx = None
    block.synapse.weight.data = weight.unsqueeze(-1)
    block.neuron.norm = lambda u: u + bias.reshape(1, -1, 1, 1, 1)
    theirs = block(x.permute(1, 3, 2, 0).reshape(3, 6, 6, 6, 5))
    assert theirs.any()
    assert torch.equal(theirs.permute(4, 0, 2, 3, 1).reshape(ours.shape), ours)


def test_weights_are_quantised_by_slayers_rule():
    layer = SpikingConv(4, 4, 1, (2, 2))
    layer.phase = "deployed"
    weight, _ = layer.folded()
    q = layer.block.neuron.quantize_8bit(layer.norm.fold_weight(layer.weight), descale=True)
    assert np.array_equal(integers(weight), q.detach().int().numpy())
    assert not (integers(weight) & 1).any()
    with pytest.raises(ValueError, match="grid"):
        integers(torch.tensor([0.3]))


@pytest.mark.parametrize("name, change", NETS)
def test_every_op_of_every_model_equals_torch(name, change):
    net, x = lively(name, **change)
    theirs = trace_net(net, x.numpy())
    graph = net.graph()
    graph.check()
    with torch.no_grad():
        embedded = net.stem(x).int().numpy()
    ours = integer.run(graph, embedded, spikes=True)
    active = [n for n in graph.ops if ours.spikes[n].any()]
    enough = len(graph.ops) * 2 // 3 if net.masks else len(graph.ops) - 2
    assert len(active) >= enough, f"silent ops prove nothing: {set(graph.ops) - set(active)}"
    for op in graph.ops:
        assert np.array_equal(ours.spikes[op], theirs.spikes[op]), op
    assert np.array_equal(ours.alive, theirs.alive) and np.array_equal(ours.logits, theirs.logits)
    assert np.array_equal(ours.exit_step, theirs.exit_step)
    if net.has_gates:
        assert 0 < ours.mean_tokens < 1


@pytest.mark.parametrize("name, change", NETS)
def test_logits_do_not_depend_on_batch_mates(name, change):
    net, x = lively(name, **change)
    net.set_phase("deployed")
    net.eval()
    with torch.no_grad():
        together = net(x)
        for i in range(len(x)):
            alone = net(x[i : i + 1])
            assert torch.equal(alone.logits[0], together.logits[i]) and alone.exit_step[0] == together.exit_step[i]


@pytest.mark.parametrize("name, change", NETS)
@pytest.mark.parametrize("phase", ["float", "deployed"])
def test_gradients_reach_every_parameter(name, change, phase):
    net, x = lively(name, depth=1, **change)
    net.set_phase(phase)
    net.train()
    out = net(x)
    (torch.nn.functional.cross_entropy(out.logits, torch.arange(6) % 5) + out.alive + out.activity + out.open).backward()
    silent = [n for n, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)]
    gates = [n for n in silent if "gate" in n or "open" in n]
    other = sorted(set(silent) - set(gates))
    assert not other, other
    assert phase == "float" or not gates, gates


@pytest.mark.parametrize("order", ["serial", "rectangle"])
@pytest.mark.parametrize("name", ["stas", "at_snn"])
def test_halting_without_score_equals_the_ungated_net(name, order):
    off = {"merge": {"enabled": False}}
    net, x = lively(name, beta=-60.0, halting={"order": order}, **off)
    plain, _ = lively(name, halting={"enabled": False}, **off)
    a, b = trace_net(net, x.numpy()), trace_net(plain, x.numpy())
    assert net.gates and not plain.gates and a.mean_tokens == 1 and np.array_equal(a.logits, b.logits)
    for op in b.ops:
        assert np.array_equal(a.spikes[op], b.spikes[op]), op


def test_mechanisms_that_a_model_does_not_wire_are_refused():
    net = lively("at_snn")[0]
    for change, key in (({}, "model.merge.enabled"), (RECTANGLE | {"merge": {"enabled": False}}, "model.halting.order")):
        halting = TokenHalting.of(net, config("at_snn", **change), 16, 2, prefix="other.")
        with pytest.raises(DeployError, match=key):
            halting.ends  # noqa: B018 - raises


@pytest.mark.parametrize(
    "name, change, reason",
    [
        ("at_snn", {"merge": {"enabled": True}}, "absorbed"),
        ("at_snn", {"halting": {"order": "block"}, "merge": {"enabled": False}}, "in block order"),
        ("spikformer", {"halting": {"enabled": False}}, "no token halts"),
        ("stas", {}, "patch splitting"),
        ("qkformer", {"halting": {"enabled": True}}, "patch splitting"),
    ],
)
def test_an_embedding_that_tokens_cannot_leave_is_refused(name, change, reason):
    with pytest.raises(DeployError, match=f"model.halting.embedding.*{reason}"):
        lively(name, **merge(change, {"halting": {"embedding": True}}))


@pytest.mark.parametrize("kind, stride, tokens", [("biased", 1, 9), ("biased", 1, 36), ("conv", 1, 9), ("conv", 1, 36), ("conv", 2, 9)])
def test_a_dead_tokens_patch_equals_the_ops(kind, stride, tokens):
    """6 x 6 positions, each token with its own or 2 x 2 of them, some dead from the second or third timestep on."""
    torch.manual_seed(3)
    layer: Any = BiasEncoder((6, 6), 5, 4.0, -900, 900) if kind == "biased" else SpikingConv(5, 7, 3, (6, 6), stride)
    if kind == "conv":
        layer.norm.beta.data += 2 * layer.norm.gamma.data
    layer.name, layer.phase = "layer", "deployed"
    layer.prepare()
    op, size = layer.to_op(), 900 if kind == "biased" else 1
    state, held = op.state(3), {}
    credit = 1 - torch.bernoulli(torch.full((3, 3, tokens), 0.25)).cumsum(0).clamp(max=1)
    x = torch.randint(-size if kind == "biased" else 0, size + 1, (4, 3, 36, 5)).float()
    for t in range(4):
        alive = credit[t - 1] if t else torch.ones(3, tokens)
        given = {"x": (x[t].int().numpy(),), "alive": alive.int().numpy()}
        now = Moment(t + 1, 1, 4, held, [], 3, False)
        theirs = layer({"x": [x[t] if kind == "biased" else x[t : t + 1]], "alive": alive[None]}, now)[0].detach().numpy()
        ours = op.step(state, given, np.full(3, t + 1))
        assert np.array_equal(ours, theirs) and ours.any()
        if t:
            dead = ~(given["alive"] > 0)[:, patches((6 // stride, 6 // stride), tokens)]
            assert dead.any() and not ours[dead].any() and ours[~dead].any()


@pytest.mark.parametrize("rule", ["mute", "hold", "skip"])
def test_timestep_masks_equal_torch_under_every_rule(rule):
    net, x = lively("dts_vit", mask={"rule": rule})
    theirs, graph = trace_net(net, x.numpy()), net.graph()
    with torch.no_grad():
        ours = integer.run(graph, net.stem(x).int().numpy(), spikes=True)
    for op in graph.ops:
        assert np.array_equal(ours.spikes[op], theirs.spikes[op]), op
    closed = graph.ops["block1.fc1.open"].mask == 0
    assert closed.any() and not ours.spikes["block1.fc1"][:, closed].any() and ours.spikes["block1.fc1"][:, ~closed].any()
    updates = ours.counts[:, :, list(graph.ops).index("block1.fc1"), COUNTERS.index("neuron_update")].sum(0)
    assert (updates[closed] == 0).all() == (rule == "skip") and (updates[~closed] > 0).all()
