"""Process that runs a `StageLeaf`. Nothing but process classes here: Lava's compiler executes this file again."""

import numpy as np

from spikegate.deploy.lava.lava_import import (
    CPU,
    AbstractProcess,
    AsyncProtocol,
    InPort,
    LavaPyType,
    LoihiProtocol,
    OutPort,
    PyAsyncProcessModel,
    PyInPort,
    PyLoihiProcessModel,
    PyOutPort,
    implements,
    requires,
)

IN, OUT = 64, 8  # Lava wants every port as a class attribute, so the largest numbers of senders and of output ports are fixed


class StageProcess(AbstractProcess):
    """Ports ``in_0`` .. for one message of each sender, ``out_0`` .. for each set of signals that others read, ``back`` to the injector."""

    def __init__(self, leaf) -> None:
        super().__init__(name=leaf.plan.name, leaf=leaf)
        for k in range(IN):
            setattr(self, f"in_{k}", InPort((leaf.layouts[k].nbytes if k < len(leaf.layouts) else 1,)))
        for k in range(OUT):
            setattr(self, f"out_{k}", OutPort((leaf.plan.ports[k].layout.nbytes if k < len(leaf.plan.ports) else 1,)))
        self.back = OutPort((leaf.feedback.nbytes,))


class StagePorts:
    """Ports and timestep of both models."""

    back: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.uint8)

    def begin(self, proc_params) -> None:
        self.leaf = proc_params["leaf"]
        self.leaf.start()

    def receive(self, k: int) -> np.ndarray:
        return getattr(self, f"in_{k}").csp_ports[0].recv()  # the port's own `recv` would add it to a zero of its whole shape

    def send(self, k: int, message: np.ndarray) -> None:
        getattr(self, f"out_{k}").send(message)

    def step(self) -> bool:
        return self.leaf.guarded(lambda: self.leaf.step(self.receive, self.send, self.back.send))


for _k in range(IN):
    setattr(StagePorts, f"in_{_k}", LavaPyType(PyInPort.VEC_DENSE, np.uint8))
for _k in range(OUT):
    setattr(StagePorts, f"out_{_k}", LavaPyType(PyOutPort.VEC_DENSE, np.uint8))


@implements(proc=StageProcess, protocol=AsyncProtocol)
@requires(CPU)
class StageAsync(StagePorts, PyAsyncProcessModel):
    """Runs at its own pace until the end message."""

    def __init__(self, proc_params) -> None:
        super().__init__(proc_params)
        self.begin(proc_params)

    def run_async(self) -> None:
        while self.step():
            pass


@implements(proc=StageProcess, protocol=LoihiProtocol)
@requires(CPU)
class StageLoihi(StagePorts, PyLoihiProcessModel):
    """One timestep in each chip step."""

    def __init__(self, proc_params) -> None:
        super().__init__(proc_params)
        self.begin(proc_params)

    def run_spk(self) -> None:
        if not self.step():
            self._req_pause = True
