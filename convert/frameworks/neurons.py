"""The neurons of snnTorch and Sinabs as NIR nodes at dt = 1, their reset in the metadata; what NIR cannot say is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np

from spikegate.errors import DeployError
from spikegate.formats.nir.soft import LATE, SUBTRACT, ZERO


def neuron_of(name: str, layer: Any, shape: tuple[int, ...]) -> Any | None:
    """The NIR node of a spiking layer of either framework, parameters of `shape`; None for other modules."""
    home, kind = type(layer).__module__.split(".")[0], type(layer).__name__
    if home == "snntorch":
        return _snntorch(name, kind, layer, shape)
    if home == "sinabs" and hasattr(layer, "spike_threshold"):
        return _sinabs(name, kind, layer, shape)
    return None


def _full(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    given = np.asarray(value.detach().double() if hasattr(value, "detach") else value, float)
    return np.array(np.broadcast_to(given if given.size > 1 else given.reshape(-1)[0], shape))


def _snntorch(name: str, kind: str, layer: Any, shape: tuple[int, ...]) -> Any:
    """Leaky and Synaptic: u and v decay by alpha and beta, what arrives is added whole."""
    import nir

    if kind not in ("Leaky", "Synaptic"):
        raise DeployError(name, f"snnTorch's {kind} has no NIR node here", "use Leaky or Synaptic, or export it with snntorch.export_nir")
    if layer.inhibition or layer.state_quant or float(layer.graded_spikes_factor) != 1:
        which = "inhibition" if layer.inhibition else "state_quant" if layer.state_quant else "a graded_spikes_factor"
        raise DeployError(name, f"has {which}, which no neuron on chip has", "train without it")
    mechanism, delayed = layer.reset_mechanism, bool(getattr(layer, "reset_delay", True))
    if mechanism == "none":
        raise DeployError(name, "is never reset", "reset_mechanism 'subtract' or 'zero'")
    if mechanism == "zero" and kind == "Synaptic" and delayed:
        raise DeployError(name, "drops what arrives in the timestep after a spike (reset 'zero', delayed)", "reset_mechanism 'subtract'")
    beta = _full(layer.beta.clamp(0, 1), shape)
    keep = {"reset": ZERO if mechanism == "zero" else LATE if delayed else SUBTRACT}
    theta, none = _full(layer.threshold, shape), np.zeros(shape)
    if kind == "Leaky" and (beta == 1).all():
        return nir.IF(np.ones(shape), theta, metadata=keep)
    if (beta == 1).any():
        raise DeployError(name, "has a beta of 1 beside others", "keep decays below 1")
    tau = 1 / (1 - beta)
    if kind == "Leaky":
        return nir.LIF(tau, tau, none, theta, none, metadata=keep)
    alpha = _full(layer.alpha.clamp(0, 1), shape)
    if (alpha == 1).any():
        raise DeployError(name, "has an alpha of 1", "keep decays below 1")
    syn = 1 / (1 - alpha)
    return nir.CubaLIF(syn, tau, tau, none, theta, none, w_in=syn, metadata=keep)


def _sinabs(name: str, kind: str, layer: Any, shape: tuple[int, ...]) -> Any:
    """IAF and LIF, also squeezed; `exp(-1 / tau)` is what stays of a voltage, and as many spikes leave as it holds thresholds."""
    import nir

    if kind.removesuffix("Squeeze") not in ("IAF", "LIF"):
        raise DeployError(name, f"Sinabs' {kind} has no NIR node here", "use IAF or LIF")
    if layer.tau_syn is not None:
        raise DeployError(name, "has a synaptic current that decays in the timestep in which it arrives", "leave tau_syn out")
    how, reset = layer.spike_fn.__name__, type(layer.reset_fn).__name__
    if how not in ("MultiSpike", "SingleSpike") or reset not in ("MembraneSubtract", "MembraneReset"):
        raise DeployError(name, f"spikes by {how} and resets by {reset}", "MultiSpike or SingleSpike, MembraneSubtract or MembraneReset")
    if reset == "MembraneSubtract" and layer.reset_fn.subtract_value is not None:
        raise DeployError(name, "subtracts another value than its threshold", "leave subtract_value out")
    if reset == "MembraneReset" and how == "MultiSpike":
        raise DeployError(name, "sends several spikes and is reset to 0", "spike_fn=SingleSpike")
    facts: dict[str, Any] = {"reset": ZERO} if reset == "MembraneReset" else {"reset": SUBTRACT, "levels": 0 if how == "MultiSpike" else 1}
    theta, none = _full(layer.spike_threshold, shape), np.zeros(shape)
    if layer.min_v_mem is not None:
        facts["note"] = f"its lower bound of the voltage, {float(layer.min_v_mem):g}, is left out"
    if kind.startswith("IAF"):
        return nir.IF(np.ones(shape), theta, metadata=facts)
    tau = 1 / (1 - _full(layer.alpha_mem_calculated, shape))
    return nir.LIF(tau, np.ones(shape) if layer.norm_input else tau, none, theta, none, metadata=facts)
