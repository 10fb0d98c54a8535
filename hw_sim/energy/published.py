"""The field's energy formula and dense operation counts from layer shapes, to check our tables against published rows."""

from __future__ import annotations

from spikegate.hw_sim.energy.cost_tables import HOST, load_table


def conv_macs(channels_in: int, channels_out: int, kernel: int, height: int, width: int) -> int:
    """Multiply-accumulates of a kernel x kernel convolution with a height x width output; padding taps are counted."""
    return kernel * kernel * channels_in * channels_out * height * width


def linear_macs(tokens: int, features_in: int, features_out: int) -> int:
    """Multiply-accumulates of a token-wise linear layer."""
    return tokens * features_in * features_out


def attention_macs(tokens: int, dim: int) -> int:
    """Both products of attention, Q K^T and (Q K^T) V, over all heads."""
    return 2 * tokens * tokens * dim


def spikformer_macs(
    size: int,
    dim: int,
    depth: int,
    classes: int,
    *,
    channels: int = 3,
    pools: tuple[bool, ...] = (False, False, True, True),
    expansion: int = 4,
) -> dict[str, int]:
    """Dense multiply-accumulates of one timestep of a Spikformer (arXiv 2209.15425), by part.

    Parameters
    ----------
    size : height and width of the image
    dim : width of the tokens; the patch splitting's stages have dim / 8, / 4, / 2 and / 1 channels
    pools : which stages halve the map after their neurons (CIFAR: the last two)

    Returns
    -------
    {"conv1", "embedding" (the other stages and the position convolution), "blocks", "head"}
    """
    stages = [(channels, dim // 8), (dim // 8, dim // 4), (dim // 4, dim // 2), (dim // 2, dim)]
    macs = []
    for (inner, outer), pool in zip(stages, pools):
        macs.append(conv_macs(inner, outer, 3, size, size))
        size = size // 2 if pool else size
    macs.append(conv_macs(dim, dim, 3, size, size))
    tokens = size * size
    block = 4 * linear_macs(tokens, dim, dim) + attention_macs(tokens, dim) + 2 * linear_macs(tokens, dim, expansion * dim)
    return {"conv1": macs[0], "embedding": sum(macs[1:]), "blocks": depth * block, "head": dim * classes}


def formula_mj(ops: float, conv1_macs: int, timesteps: int) -> float:
    """E = E_AC x ops + E_MAC x T x MACs(first convolution), in mJ, with table paper45.

    `ops` are accumulates over all timesteps; the papers charge the first convolution at every timestep.
    """
    table = load_table("paper45")
    ac_pj, mac_pj = table.pj("synop"), table.pj(HOST)
    assert ac_pj is not None and mac_pj is not None
    return (ac_pj * ops + mac_pj * timesteps * conv1_macs) * 1e-9
