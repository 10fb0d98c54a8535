"""Process that runs an `InjectorLeaf`. Nothing but process classes here: Lava's compiler executes this file again."""

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

OUT = 8  # see `stage`


class InjectorProcess(AbstractProcess):
    """Port ``back`` brings the exit process's decision, ``out_0`` .. go to the stages."""

    def __init__(self, leaf) -> None:
        super().__init__(name=leaf.plan.name, leaf=leaf)
        self.back = InPort((leaf.feedback.nbytes,))
        for k in range(OUT):
            setattr(self, f"out_{k}", OutPort((leaf.plan.ports[k].layout.nbytes if k < len(leaf.plan.ports) else 1,)))


class InjectorPorts:
    """Ports and timestep of both models."""

    back: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.uint8)

    def begin(self, proc_params) -> None:
        self.leaf = proc_params["leaf"]
        self.leaf.start()

    def receive(self, k: int) -> np.ndarray:
        return self.back.csp_ports[0].recv()  # see `stage`

    def send(self, k: int, message: np.ndarray) -> None:
        getattr(self, f"out_{k}").send(message)

    def step(self) -> bool:
        return self.leaf.guarded(lambda: self.leaf.step(self.receive, self.send))


for _k in range(OUT):
    setattr(InjectorPorts, f"out_{_k}", LavaPyType(PyOutPort.VEC_DENSE, np.uint8))


@implements(proc=InjectorProcess, protocol=AsyncProtocol)
@requires(CPU)
class InjectorAsync(InjectorPorts, PyAsyncProcessModel):
    """Runs at its own pace until the parent ends the network."""

    def __init__(self, proc_params) -> None:
        super().__init__(proc_params)
        self.begin(proc_params)

    def run_async(self) -> None:
        while self.step():
            pass


@implements(proc=InjectorProcess, protocol=LoihiProtocol)
@requires(CPU)
class InjectorLoihi(InjectorPorts, PyLoihiProcessModel):
    """One timestep in each chip step; waits inside a step while the parent has no samples."""

    def __init__(self, proc_params) -> None:
        super().__init__(proc_params)
        self.begin(proc_params)

    def run_spk(self) -> None:
        if not self.step():
            self._req_pause = True
