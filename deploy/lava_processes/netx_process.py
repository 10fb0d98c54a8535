"""Process with the nouns of `netx.hdf5.Network`. Nothing but process classes here: Lava's compiler executes this file again."""

from typing import Any

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
    implements,
    net_dict,
    requires,
    tag,
)
from spikegate.formats.netx.layers import LayerView, build, described, from_lava, input_shape_of, to_lava

LAYERS = 64  # Lava wants every port as a class attribute, so the largest number of layers is fixed


class Network(AbstractProcess):
    """Drop-in for lava-dl 0.6.0's `netx.hdf5.Network`, in one process; see `spikegate.deploy.netx_network`."""

    _runtime = None  # of a Network whose file was refused: Lava asks for it when the object goes

    def __init__(self, net_config, num_layers=None, skip_layers=0, input_message_bits=0, input_shape=None, reset_interval=None,
                 reset_offset=0, spike_exp=6, sparse_fc_layer=False) -> None:
        pipeline = build(net_config, num_layers, skip_layers, input_message_bits, input_shape, reset_interval, reset_offset, spike_exp,
                         LAYERS)
        biases: dict[int, Any] = {}
        super().__init__(net_config=net_config, num_layers=num_layers, input_message_bits=input_message_bits, pipeline=pipeline,
                         biases=biases)
        self.filename = net_config
        self.num_layers, self.skip_layers, self.input_shape = num_layers, skip_layers, input_shape_of(pipeline, input_shape)
        self.input_message_bits, self.spike_exp, self.sparse_fc_layer = input_message_bits, spike_exp, sparse_fc_layer
        self.reset_interval, self.reset_offset = reset_interval, reset_offset
        self.layers = described(pipeline, biases)
        self.net_str = "\n".join([LayerView.HEADER, *(layer.row for layer in self.layers)])
        self.in_layer, self.out_layer = self.layers[0], self.layers[-1]
        self.inp = InPort(shape=self.in_layer.in_shape)
        for k in range(LAYERS):
            setattr(self, f"out_{k}", OutPort(shape=self.layers[k].shape if k < len(self.layers) else (1,)))
        self.out = OutPort(shape=self.out_layer.shape)
        for k, layer in enumerate(self.layers):
            layer.join(self.inp if k == 0 else None, getattr(self, f"out_{k}"))
        self.output_message_bits = self.out_layer.output_message_bits

    @property
    def net_config(self):
        """The file as lava-dl's NetDict."""
        return net_dict(self.filename)

    def __str__(self) -> str:
        return self.net_str

    def __len__(self) -> int:
        return len(self.layers)


class NetxPorts:
    """The ports of all layers."""

    inp: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)


for _k in range(LAYERS):
    setattr(NetxPorts, f"out_{_k}", LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24))


@implements(proc=Network, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "floating_pt")
class NetworkModel(NetxPorts, PyLoihiProcessModel):
    """One Lava step of all layers. Sends before it receives where it can, as stock does, so that loops do not wait for each other."""

    def __init__(self, proc_params) -> None:
        super().__init__(proc_params)
        self.pipeline = proc_params["pipeline"]
        for k, bias in proc_params["biases"].items():
            self.pipeline.layers[k].bias = from_lava(bias, self.pipeline.layers[k].op)

    def run_spk(self) -> None:
        x = None
        if self.pipeline.immediate:
            x = from_lava(self.inp.recv(), self.pipeline.layers[0].op)
        outs = self.pipeline.fire(x)
        for k, out in enumerate(outs):
            port = getattr(self, f"out_{k}")
            if port.csp_ports:
                port.send(to_lava(out, self.pipeline.layers[k].op))
        self.out.send(to_lava(outs[-1], self.pipeline.layers[-1].op))
        if x is None:
            x = from_lava(self.inp.recv(), self.pipeline.layers[0].op, incoming=True)
        self.pipeline.absorb(x)
