"""Process with the nouns of `netx.hdf5.Network`. Nothing but process classes here: Lava's compiler executes this file again."""

import re

import numpy as np

from spikegate.deploy.lava.lava_import import (
    CPU,
    AbstractProcess,
    InPort,
    LavaPyType,
    LoihiProtocol,
    OutPort,
    PyInPort,
    PyLoihiProcessModel,
    PyOutPort,
    Var,
    implements,
    net_dict,
    requires,
    synapse_classes,
    tag,
)
from spikegate.deploy.lava.script_runtime import leave_nothing
from spikegate.formats.netx.layers import LayerView, build, described, from_lava, input_shape_of, to_lava
from spikegate.formats.netx.open_state import OpenState


class Network(AbstractProcess):
    """Drop-in for lava-dl 0.6.0's `netx.hdf5.Network`, in one process; see `spikegate.deploy.netx_network`."""

    _runtime = None  # of a Network whose file was refused: Lava asks for it when the object goes

    def __init__(self, net_config, num_layers=None, skip_layers=0, input_message_bits=0, input_shape=None, reset_interval=None,
                 reset_offset=0, spike_exp=6, sparse_fc_layer=False) -> None:
        pipeline = build(net_config, num_layers, skip_layers, input_message_bits, input_shape, reset_interval, reset_offset, spike_exp)
        leave_nothing()
        super().__init__(net_config=net_config, num_layers=num_layers, input_message_bits=input_message_bits, pipeline=pipeline)
        self.filename = net_config
        self.num_layers, self.skip_layers, self.input_shape = num_layers, skip_layers, input_shape_of(pipeline, input_shape)
        self.input_message_bits, self.spike_exp, self.sparse_fc_layer = input_message_bits, spike_exp, sparse_fc_layer
        self.reset_interval, self.reset_offset = reset_interval, reset_offset
        self.layers = described(pipeline, *synapse_classes(sparse_fc_layer))
        self.proc_params["layers"] = self.layers
        self.net_str = "\n".join([LayerView.HEADER, *(layer.row for layer in self.layers)])
        self.in_layer, self.out_layer = self.layers[0], self.layers[-1]
        self.inp = InPort(shape=self.in_layer.in_shape)
        self.out = OutPort(shape=self.out_layer.shape)
        for k, layer in enumerate(self.layers):
            setattr(self, f"out_{k}", OutPort(shape=layer.shape))
            layer.join(self.inp if k == 0 else None, getattr(self, f"out_{k}"))
            for name, value in OpenState(pipeline.layers[k]).initial().items():
                var = Var(shape=value.shape, init=value)
                setattr(self, f"{name}_{k}", var)
                setattr(layer.neuron, name, var)
        self.output_message_bits = self.out_layer.output_message_bits

    @property
    def net_config(self):
        """The file as lava-dl's NetDict."""
        return net_dict(self.filename)

    def __str__(self) -> str:
        return self.net_str

    def __len__(self) -> int:
        return len(self.layers)


class NamedByLayer(type(PyLoihiProcessModel)):  # type: ignore[misc]
    """Lava asks the class for the type of each port and Var; here their number follows the file: out_3, v_3."""

    def __getattr__(cls, name):
        if re.fullmatch(r"out_\d+", name):
            return LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
        if re.fullmatch(r"[a-z][a-z_]*_\d+", name):
            return LavaPyType(np.ndarray, np.int32, precision=24)
        raise AttributeError(name)


@implements(proc=Network, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "floating_pt")
class NetworkModel(PyLoihiProcessModel, metaclass=NamedByLayer):
    """One Lava step of all layers. Sends before it receives where it can, as stock does, so that loops do not wait for each other."""

    inp: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params) -> None:
        super().__init__(proc_params)
        self.pipeline = proc_params["pipeline"]
        self.opened: dict[int, OpenState] = {}
        self.heard: list[tuple[int, PyOutPort]] = []
        for layer, view in zip(self.pipeline.layers, proc_params["layers"]):
            layer.shifts = {name: getattr(view, name).exponent if name in vars(view) else 0 for name in layer.shifts}

    def __setattr__(self, key, value):
        """A Var that Lava sets or a port writes becomes the layer's state, or its parameter."""
        name, _, k = key.rpartition("_")
        if name and k.isdigit() and isinstance(value, np.ndarray):
            state = self.opened.setdefault(int(k), OpenState(self.pipeline.layers[int(k)]))
            value = state.bound(name, value)
        super().__setattr__(key, value)

    def on_var_update(self):
        """After a script's ``Var.set``, which writes into the arrays in place."""
        for k, state in self.opened.items():
            for name in (*state.fields, *([state.bias] if state.bias else [])):
                state.take(name, getattr(self, f"{name}_{k}"))

    def start(self):
        """Only ports that somebody reads are served in a step."""
        ports = [(k, getattr(self, f"out_{k}")) for k in range(len(self.pipeline.layers))]
        self.heard = [(k, port) for k, port in [*ports, (-1, self.out)] if port.csp_ports]
        super().start()

    def run_spk(self) -> None:
        layers = self.pipeline.layers
        x = None
        if self.pipeline.immediate:
            x = from_lava(self.inp.recv(), layers[0].op)
        outs = self.pipeline.fire(x)
        for k, port in self.heard:
            port.send(to_lava(outs[k], layers[k].op))
        if x is None:
            x = from_lava(self.inp.recv(), layers[0].op, incoming=True)
        self.pipeline.absorb(x)
