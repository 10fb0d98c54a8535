"""Whether an imported graph computes what NIR's equations do."""

from __future__ import annotations

import warnings

import numpy as np

from spikegate.engine.integer import run
from spikegate.errors import DeployError
from spikegate.formats.nir.floats import FloatRun
from spikegate.formats.nir.importer import import_graph, planned
from tests.nir_equations import interpret, scores

REFUSED, EXACT, APPROXIMATE = "refused", "exact", "approximate"


def in_positions(x, shape):
    """NIR's [..., channels, height, width] as [..., positions, channels]."""
    if len(shape) == 1:
        return x
    lead = x.ndim - len(shape)
    return np.moveaxis(x.reshape(*x.shape[:lead], shape[0], -1), lead, -1)


def compared(graph, x, timesteps, dt=1.0, held=()):
    """`REFUSED`, or `EXACT` or `APPROXIMATE` as the import says; an AssertionError where what it says is not so."""
    try:
        made, report = import_graph(graph, timesteps=timesteps, dt=dt, calibrate=0.5)
    except DeployError as e:
        assert e.where and e.problem and e.hint
        return REFUSED
    answer, sent = interpret(graph, x, dt, held)
    flat = x.reshape(len(x), timesteps, -1)
    floats = FloatRun(planned(graph, timesteps, dt), flat)
    assert np.allclose(floats.answer, answer.reshape(floats.answer.shape), rtol=1e-9, atol=1e-9), "the plan is another net"
    for name, spikes in floats.sent.items():
        if name in sent:
            assert np.array_equal(spikes, sent[name].reshape(spikes.shape)), f"{name} spikes otherwise in the plan"
    if not report.exact:
        return APPROXIMATE
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record = run(made, in_positions(x, x.shape[2:]).reshape(len(x), timesteps, *made.input_shape), spikes=True)
    for name in floats.sent:
        if name in record.spikes:
            ours, laid = record.spikes[name], in_positions(sent[name], sent[name].shape[2:])
            theirs = laid if laid.shape == ours.shape else sent[name].reshape(ours.shape)
            assert np.array_equal(theirs, ours), f"{name} spikes otherwise"
    want = report.scores_per_unit * scores(graph, answer)
    assert np.array_equal(want.reshape(len(x), -1), record.logits), "another answer"
    return EXACT
