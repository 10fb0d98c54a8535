"""SANA-FE as an optional back end (package sanafe, GPL-3.0, extra ``sanafe``): it replays events, its neurons compute nothing.

The synapses of a neuron to one core are one synapse whose energy and time are multiplied by their number, which changes none of its
figures but the count of synaptic events (`Played.events` is ours) and makes nets of millions of synapses fit. All neurons of a core share
one input unit: it hands out its spike train neuron by neuron, step by step.
"""

from __future__ import annotations

import io
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from spikegate.graph.ir import DeployError
from spikegate.hw_sim.sanafe.replay import Costs, Pair, Played, Replay

UNIT = 1024  # neurons that a dendrite unit of SANA-FE holds
TIMINGS = ("simple", "detailed")


def package() -> Any:
    """The package.

    Raises
    ------
    DeployError
        Where it is not installed.
    """
    try:
        import sanafe
    except ImportError as e:
        raise DeployError("sanafe", f"cannot be imported ({e})", "install the extra: pip install 'spikegate[sanafe]'") from None
    return sanafe


def loihi_costs(synapse: str = "conv") -> Costs:
    """The figures of SANA-FE's own Loihi model, read from the installed package; `synapse` is "dense", "sparse" or "conv"."""
    path = Path(package().__file__).parent / "examples" / "loihi.yaml"
    whole = yaml.safe_load(path.read_text())["architecture"]
    tile = whole["tile"][0]
    core = tile["core"][0]

    def pair(unit: dict[str, Any], name: str, other: str | None = None) -> Pair:
        return float(unit[f"energy_{name}"]) * 1e12, float(unit[f"latency_{other or name}"]) * 1e9

    def unit(part: str, name: str) -> dict[str, Any]:
        return next(u["attributes"] for u in core[part] if u["name"] == name)

    soma, hop = unit("soma", "loihi_lif"), tile["attributes"]
    update, spike = pair(soma, "update_neuron"), pair(soma, "spike_out")
    return Costs(
        synapse=pair(unit("synapse", f"loihi_{synapse}_synapse"), "process_spike"), visit=pair(soma, "access_neuron"),
        fire=(update[0] + spike[0], update[1] + spike[1]), packet_out=pair(unit("axon_out", "loihi_out"), "message_out"),
        packet_in=pair(unit("axon_in", "loihi_in"), "message_in"), hop_x=pair(hop, "east_hop"), hop_y=pair(hop, "north_hop"),
        sync_ns=tuple((int(k), float(v) * 1e9) for k, v in sorted(whole["attributes"]["latency_sync"].items())),
    )  # fmt: skip


def play(replay: Replay, costs: Costs, timing: str = "detailed", link_buffer: int = 16) -> Played:
    """Replay in SANA-FE; `link_buffer` packets wait at a link (16 in its Loihi model).

    Raises
    ------
    DeployError
        Without the package.
    """
    sanafe = package()
    if timing not in TIMINGS:
        raise DeployError("timing", f"no timing model {timing!r}", f"use one of {', '.join(TIMINGS)}")
    fans = [np.unique(np.concatenate([e.fan for e in replay.edges if e.receiver == c] or [np.ones(1)])) for c in range(len(replay.neurons))]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "arch.yaml"
        path.write_text(yaml.dump(_architecture(replay, costs, fans, link_buffer), Dumper=_Plain))
        with redirect_stdout(io.StringIO()):  # it reports its progress there, and commands print JSON there
            arch = sanafe.load_arch(path)
            found = _run(sanafe, arch, replay, fans, timing)
    perf, energy = found["perf_trace"], found["energy"]
    events = sum(float((replay.fired[e.sender][:, e.source] @ e.fan).sum()) for e in replay.edges)
    return Played(energy["synapse"], energy["soma"], energy["network"], events, int(found["packets_sent"]), int(np.sum(perf["hops"])),
                  np.array(perf["sim_time"], float))


def _run(sanafe: Any, arch: Any, replay: Replay, fans: list[np.ndarray], timing: str) -> dict[str, Any]:
    net, cores, at = sanafe.Network(), arch.cores(), _order(replay)
    groups = []
    for c, number in enumerate(replay.neurons):
        group = net.create_neuron_group(f"c{c}", int(number), soma_hw_name="replay")
        for n, neuron in enumerate(group.neurons):
            neuron.set_attributes(dendrite_hw_name=f"dendrite{n // UNIT}", default_synapse_hw_name="f0")
            neuron.map_to_core(cores[at[c]])
        group.neurons[0].set_attributes(model_attributes={"spikes": replay.fired[c].ravel().tolist()})
        groups.append(group)
    for e in replay.edges:
        which = np.searchsorted(fans[e.receiver], e.fan)
        for f in np.unique(which):
            target = int(f) % int(replay.neurons[e.receiver])
            groups[e.receiver].neurons[target].set_attributes(default_synapse_hw_name=f"f{f}")
            pairs = [(int(n), target) for n in e.source[which == f]]
            groups[e.sender].connect_neurons_sparse(groups[e.receiver], {"weight": [0.0] * len(pairs)}, pairs)
    chip = sanafe.SpikingChip(arch)
    chip.load(net)
    return chip.sim(replay.steps, timing_model=timing, processing_threads=1, perf_trace=True)


def _tile(replay: Replay) -> np.ndarray:
    """SANA-FE's number of each core's tile: it counts down the columns."""
    x, y = replay.mesh.xy(replay.slots)
    return x * replay.mesh.height + y


def _order(replay: Replay) -> np.ndarray:
    """SANA-FE's number of each core, int64 [cores]: through the tiles in order; a tile without cores has one that stays empty."""
    tile = _tile(replay)
    before = np.concatenate([[0], np.cumsum([max(1, int((tile == t).sum())) for t in range(replay.mesh.width * replay.mesh.height)])])
    within = np.array([int((tile[:c] == t).sum()) for c, t in enumerate(tile)], np.int64)
    return before[tile] + within


def _architecture(replay: Replay, costs: Costs, fans: list[np.ndarray], link_buffer: int) -> dict[str, Any]:
    """What `load_arch` reads: the mesh, and each core with the synapse units that it needs."""
    def unit(name: str, energy: str, latency: str, pair: Pair, times: float = 1.0, **more: Any) -> dict[str, Any]:
        return {"name": name, "attributes": {energy: pair[0] * 1e-12 * times, latency: pair[1] * 1e-9 * times, **more}}

    def soma() -> dict[str, Any]:
        out: dict[str, Any] = {"model": "input"}
        for name, pair in (("access_neuron", costs.visit), ("update_neuron", (0.0, 0.0)), ("spike_out", costs.fire)):
            out |= {f"energy_{name}": pair[0] * 1e-12, f"latency_{name}": pair[1] * 1e-9}
        return {"name": "replay", "attributes": out}

    def core(name: str, neurons: int, fan: np.ndarray) -> dict[str, Any]:
        synapses = [unit(f"f{i}", "energy_process_spike", "latency_process_spike", costs.synapse, float(f), model="current_based")
                    for i, f in enumerate(fan)]
        dendrites = [unit(f"dendrite{i}", "energy_update", "latency_update", (0.0, 0.0), model="accumulator")
                     for i in range(max(1, -(-neurons // UNIT)))]
        return {
            "name": name, "attributes": {"buffer_position": "soma", "buffer_inside_unit": False, "max_neurons_supported": max(1, neurons)},
            "axon_in": [unit("in", "energy_message_in", "latency_message_in", costs.packet_in)], "synapse": synapses,
            "dendrite": dendrites, "soma": [soma()],
            "axon_out": [unit("out", "energy_message_out", "latency_message_out", costs.packet_out)],
        }

    hops: dict[str, float] = {}
    for way, pair in (("north", costs.hop_y), ("south", costs.hop_y), ("east", costs.hop_x), ("west", costs.hop_x)):
        hops |= {f"energy_{way}_hop": pair[0] * 1e-12, f"latency_{way}_hop": pair[1] * 1e-9}
    own = _tile(replay)
    tiles = []
    for t in range(replay.mesh.width * replay.mesh.height):
        held = [core(f"core{c}", int(replay.neurons[c]), fans[c]) for c in np.flatnonzero(own == t)]
        tiles.append({"name": f"tile{t}", "attributes": hops, "core": held or [core(f"empty{t}", 1, np.ones(1))]})
    sync = {int(n): ns * 1e-9 for n, ns in costs.sync_ns}
    attributes = {"topology": "mesh", "width": replay.mesh.width, "height": replay.mesh.height, "link_buffer_size": link_buffer,
                  "sync_model": "table", "latency_sync": sync}
    return {"architecture": {"name": "spikegate", "attributes": attributes, "tile": tiles}}


class _Plain(yaml.SafeDumper):
    """SANA-FE reads no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
