"""Lava's own bit-accurate LIF is the witness for the CUBA neuron: the same spikes, currents and voltages for any numbers.

Lava's conventions: `du` is i_decay - 1 (the chip adds 1), `dv` is v_decay, biases have the exponent 6; a neuron that spikes has v = 0 from
the end of that timestep on; there is no refractory time, and a sample's reset is this test's fresh state.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spikegate.neurons.cuba import SHIFTS, Cuba, Strict
from spikegate.neurons.leaky import Leaky
from tests.witness import neurons

pytestmark = pytest.mark.lava
STEPS, NEURONS, EDGE = 6, 45, 1 << 17  # 45 neurons: a block of 32, one of 8 and single ones; EDGE << 6 is the register's end
DECAYS = st.one_of(st.sampled_from([0, 1, 2048, 4095, 4096, *SHIFTS]), st.integers(0, 4096))


@pytest.fixture(scope="module")
def lif():
    """Makes a ProcessModel of Lava's LIF without a runtime, with ports that are attributes."""
    from spikegate.deploy.lava import lava_import

    with lava_import._tamed():
        from lava.proc.lif.models import PyLifModelBitAcc

    class Port:
        values = np.zeros(0, np.int32)

        def recv(self) -> np.ndarray:
            return self.values

        def send(self, values: np.ndarray) -> None:
            self.values = values.astype(np.int64)

    def make(n: Cuba, bias: np.ndarray) -> PyLifModelBitAcc:
        model = PyLifModelBitAcc({})
        model.a_in, model.s_out = Port(), Port()
        model.u, model.v = np.zeros(NEURONS, np.int32), np.zeros(NEURONS, np.int32)
        model.du, model.dv, model.vth = n.i_decay - 1, n.v_decay, n.vth
        model.bias_mant, model.bias_exp = bias.astype(np.int32), np.full(NEURONS, 6)
        return model

    return make


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    i_decay=DECAYS.filter(lambda d: d > 0), v_decay=DECAYS, vth=st.integers(1, 4095), seed=st.integers(0, 2**32 - 1),
    reach=st.sampled_from([3, 60, 2000, EDGE // 3, EDGE]), quiet=st.booleans(),
)  # fmt: skip
@example(i_decay=4096, v_decay=2048, vth=64, seed=0, reach=EDGE, quiet=True)
@example(i_decay=1, v_decay=0, vth=4095, seed=0, reach=EDGE, quiet=False)
@pytest.mark.filterwarnings("ignore:.*leaves its 24 bits")
def test_cuba_is_lavas_lif(lif, i_decay, v_decay, vth, seed, reach, quiet):
    n, rng = Cuba(i_decay, v_decay, vth), np.random.default_rng(seed)
    bias = np.zeros(NEURONS, np.int64) if quiet else rng.integers(-4095, 4096, NEURONS)
    x = rng.integers(-reach, reach + 1, (STEPS, NEURONS))
    x[rng.random(x.shape) < 0.1] = reach  # the ends themselves
    x[rng.random(x.shape) < 0.1] = -reach
    lava, ours, swept, wide, theirs = lif(n, bias), n.state((1, NEURONS)), n.state((1, NEURONS)), n.state((1, NEURONS)), {}
    block = Leaky(i_decay, v_decay, vth)
    kept, kept_in_one = block.state((1, NEURONS)), block.state((1, NEURONS))
    Strict.raises = False
    try:
        every, _ = swept_in_one(n, swept, x, bias)
        blocks, _ = block.steps(kept_in_one, x, bias, STEPS)
        for t in range(STEPS):
            lava.a_in.values = x[t].astype(np.int32)
            lava.run_spk()
            for name, spikes, state in (
                ("step", n.step(ours, x[t][None], bias, None)[0], ours),
                ("64 bits", n.step(wide, x[t][None].astype(np.int64), bias, None)[0], wide),
                ("block", block.step(kept, x[t][None], bias)[0], kept),
                ("witness", neurons.cuba(vars(n), theirs, x[t][None], bias)[0], theirs),
            ):
                assert np.array_equal(spikes, lava.s_out.values), f"{name}, timestep {t + 1}"
                assert np.array_equal(state["v"][0], lava.v), f"{name}, timestep {t + 1}"
                if "u" in state:
                    assert np.array_equal(state["u"][0], lava.u), f"{name}, timestep {t + 1}"
            assert np.array_equal(every[t], lava.s_out.values), f"sweep, timestep {t + 1}"
            assert np.array_equal(blocks[t], lava.s_out.values), f"sweep of a block, timestep {t + 1}"
    finally:
        Strict.raises = True
    for state in (swept, kept_in_one):
        assert np.array_equal(state["v"][0], lava.v)
        assert "u" not in state or np.array_equal(state["u"][0], lava.u)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    i_decay=DECAYS, v_decay=DECAYS, reach=st.integers(1 << 17, (1 << 31) - 1), seed=st.integers(0, 2**32 - 1),
    sends=st.sampled_from(["spikes", "voltage"]),
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*leaves its 24 bits")
def test_currents_that_wrap_more_than_once_stay_within_24_bits(i_decay, v_decay, reach, seed, sends):
    """Graded sums of a layer that is fed back grow without end; Lava's own neuron wraps once and keeps more than 24 bits."""
    n, rng = Cuba(i_decay, v_decay, 64), np.random.default_rng(seed)
    block, theirs, sent = Leaky(i_decay, v_decay, 64, 0, sends), {}, {}
    x = rng.integers(-reach, reach + 1, (STEPS, NEURONS))
    bias = np.zeros(NEURONS, np.int64)
    wide, kept, at_once = n.state((1, NEURONS)), block.state((1, NEURONS)), block.state((1, NEURONS))
    fields = {**vars(block), "kind": "CUBA"}
    Strict.raises = False
    try:
        blocks, _ = block.steps(at_once, x, bias, STEPS)
        for t in range(STEPS):
            spikes = n.step(wide, x[t][None], bias, None)[0]
            assert np.array_equal(spikes, neurons.cuba(vars(n), theirs, x[t][None], bias)[0])
            out = block.step(kept, x[t][None], bias)[0]
            assert np.array_equal(out, neurons.block(fields, sent, x[t][None], bias)[0]) and np.array_equal(out, blocks[t])
            assert np.abs(kept["u"]).max() <= 1 << 23 and np.array_equal(kept["u"], sent["u"])
            assert np.array_equal(wide.get("u", kept["u"]), kept["u"])
    finally:
        Strict.raises = True
    assert np.array_equal(at_once["u"], kept["u"])


def swept_in_one(n: Cuba, state: dict[str, np.ndarray], x: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All timesteps in one call."""
    return n.steps(state, x.astype(np.int32), bias.astype(np.int32), span=len(x))


def test_spikes_reset_the_voltage_at_once_and_leave_the_current(lif):
    n = Cuba(1024, 0, 10)
    lava, state = lif(n, np.zeros(NEURONS)), n.state((1, NEURONS))
    for x in (11, 0, 0):
        lava.a_in.values = np.full(NEURONS, x, np.int32)
        lava.run_spk()
        n.step(state, np.full((1, NEURONS), x), 0, None)
        assert (lava.u == state["u"]).all() and (lava.v == state["v"]).all()
        assert (lava.v == 0).all() == bool(lava.s_out.values.all())
    assert state["u"].any()
