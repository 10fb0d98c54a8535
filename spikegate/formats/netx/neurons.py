"""The `neuron` group of a NetX layer, as lava-dl 0.6.0 writes it, as one of our neurons; or a refusal that says why."""

from __future__ import annotations

import h5py
import numpy as np

from spikegate.formats.netx.stock import kind_of, read_array
from spikegate.graph.ir import DeployError
from spikegate.neurons.base import Neuron, Per
from spikegate.neurons.leaky import SPIKES, VOLTAGE, Alif, Leaky
from spikegate.neurons.resonator import Adrf, Rf, RfIz
from spikegate.neurons.sigma_delta import Delta, Passive, Sigma, SigmaDelta
from spikegate.reading.text import said

AFFINE_VTH = (1 << 18) - 1  # SLAYER's Affine exports this threshold: the neuron only integrates
EXPONENT_MAX = 3  # default of WgtScaleBatchNorm's weight_exp_bits, to which it clamps and which the file does not say
KINDS = ("CUBA", "LOIHI", "ALIF", "SDNN", "RF_PHASE", "RF_IZHIKEVICH", "ADRF_PHASE")


def _per(group: h5py.Group, key: str, where: str) -> Per:
    """A number, or int32 [channels]."""
    value = read_array(group, key, where)
    return int(value.ravel()[0]) if value.size == 1 else value.ravel()


def _one(group: h5py.Group, key: str, where: str) -> int:
    value = _per(group, key, where)
    if np.ndim(value):
        raise DeployError(f"{where}/{key}", f"has {value.size} values", "a layer has one threshold: train with shared_param")
    return int(value)


def _refuse_what_nobody_runs(group: h5py.Group, where: str) -> None:
    if "gradedSpike" in group and bool(np.asarray(group["gradedSpike"][()]).any()):
        raise DeployError(
            f"{where}/gradedSpike", "is set: SLAYER sends the voltage as a fraction, stock NetX ignores it", "train with graded_spike=False"
        )
    if "messageBits" in group:
        raise DeployError(f"{where}/messageBits", "is set, stock NetX cannot read it either", "remove the field, give input_message_bits")
    for key, usual in (("refDelay", 1), ("wgtExp", 0)):
        if key in group and (np.asarray(group[key][()]) != usual).any():
            raise DeployError(f"{where}/{key}", f"is not {usual}; stock NetX ignores it", f"export with {key} {usual}")


def _exponent(group: h5py.Group, where: str) -> int:
    if "weight_exp" not in group:
        return 0
    e = _one(group, "weight_exp", where)
    if abs(e) > EXPONENT_MAX:
        raise DeployError(
            f"{where}/weight_exp",
            f"is {e}; SLAYER ran with it clamped to bits that the file does not hold",
            f"clamp it to +-{EXPONENT_MAX} (default weight_exp_bits) in the file, or train with mean-only normalisation",
        )
    return e


def read_neuron(layer: h5py.Group, where: str, *, first: bool = False, spike_exp: int = 6) -> Neuron:
    """Neuron of a layer; `first` where it is an input block. A layer without one passes its sums on."""
    if "neuron" not in layer:
        return Passive()
    group, where = layer["neuron"], f"{where}/neuron"
    kind = kind_of(group)
    _refuse_what_nobody_runs(group, where)
    if kind in ("CUBA", "LOIHI"):
        vth = _one(group, "vThMant", where)
        output = VOLTAGE if vth >= AFFINE_VTH else SPIKES
        return Leaky(_per(group, "iDecay", where), _per(group, "vDecay", where), vth, _exponent(group, where), output)
    if kind == "ALIF":
        i, v, th, ref = (_per(group, key, where) for key in ("iDecay", "vDecay", "thDecay", "refDecay"))
        return Alif(i, v, th, ref, _one(group, "vThMant", where), _one(group, "vThStep", where), _exponent(group, where))
    if kind == "SDNN":
        if first:
            return Delta(_one(group, "vThMant", where), spike_exp)
        if "sigma_output" in group:
            return Sigma()
        active = said(group["activation"][()] if "activation" in group else "relu")
        if active != "relu":
            raise DeployError(f"{where}/activation", f"is {active!r}; stock NetX would rectify all the same", "train with relu")
        return SigmaDelta(_one(group, "vThMant", where), spike_exp)
    if kind in ("RF_PHASE", "RF_IZHIKEVICH", "ADRF_PHASE"):
        turn = (_per(group, "sinDecay", where), _per(group, "cosDecay", where))
        vth = _one(group, "vThMant", where)
        if vth >= AFFINE_VTH:
            raise DeployError(where, "is an affine layer of resonators", "end the net with a spiking block")
        if kind == "ADRF_PHASE":
            moving = (_per(group, "thDecay", where), _per(group, "refDecay", where))
            return Adrf(*turn, *moving, vth, _one(group, "vThStep", where))
        return (Rf if kind == "RF_PHASE" else RfIz)(*turn, vth)
    why = " (SLAYER's own forward of it fails)" if kind.startswith("ADRF") else ""
    raise DeployError(where, f"type {kind!r} is not supported{why}", f"use one of {', '.join(KINDS)}")
