"""The one place that imports Lava. It needs no torch; what Lava does to multiprocessing at import is tamed here."""

from __future__ import annotations

import contextlib
import io
import logging
import multiprocessing as mp
import warnings
from types import SimpleNamespace
from typing import Any

from spikegate.deploy.lava.python312 import shared_defaults
from spikegate.errors import DeployError


@contextlib.contextmanager
def _tamed():
    """Lava calls set_start_method('fork') when imported, which raises if anything chose a method before; it needs fork."""
    original = mp.set_start_method
    mp.set_start_method = lambda method, force=False: original(method, force=True)
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            with shared_defaults():
                yield
    finally:
        logging.disable(level)
        mp.set_start_method = original


try:
    with _tamed():
        from lava.magma.compiler.builders.channel_builder import ChannelBuilderMp
        from lava.magma.compiler.channels.interfaces import Channel
        from lava.magma.compiler.channels.pypychannel import CspRecvPort, CspSendPort, Proto, PyPyChannel
        from lava.magma.core.decorator import implements, requires, tag
        from lava.magma.core.model.py.model import PyAsyncProcessModel, PyLoihiProcessModel
        from lava.magma.core.model.py.ports import PyInPort, PyOutPort
        from lava.magma.core.model.py.type import LavaPyType
        from lava.magma.core.process.message_interface_enum import ActorType
        from lava.magma.core.process.ports.ports import InPort, OutPort
        from lava.magma.core.process.process import AbstractProcess, ProcessServer
        from lava.magma.core.process.variable import Var  # noqa: F401  for the processes of lava_processes/
        from lava.magma.core.resources import CPU
        from lava.magma.core.run_conditions import RunContinuous, RunSteps
        from lava.magma.core.run_configs import RunConfig
        from lava.magma.core.sync.protocols.async_protocol import AsyncProtocol
        from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
        from lava.magma.runtime.message_infrastructure.factory import MessageInfrastructureFactory
        from lava.magma.runtime.message_infrastructure.multiprocessing import MultiProcessing, SystemProcess
        from lava.magma.runtime.runtime import Runtime
except ImportError as e:
    raise DeployError("lava", f"cannot be imported ({e})", "install it with: spikegate install-lava (or use --target int)") from e


def lava_modules(netx: bool = False) -> SimpleNamespace:
    """Stock parts that run a NetX file as lava-dl does: `source`, `sink`, `RunSteps`, `Loihi2SimCfg` and, if asked, `netx`."""
    with _tamed():
        from lava.magma.core.run_configs import Loihi2SimCfg
        from lava.proc.io import sink, source

        parts = SimpleNamespace(source=source, sink=sink, RunSteps=RunSteps, Loihi2SimCfg=Loihi2SimCfg)
        if netx:
            from lava.lib.dl.netx import hdf5

            parts.netx = hdf5
    return parts


def synapse_classes(sparse: bool) -> tuple[type, type]:
    """Lava's synapse processes without and with delays that stock NetX takes for dense layers."""
    with _tamed():
        if sparse:
            from lava.proc.sparse.process import DelaySparse, Sparse

            return Sparse, DelaySparse
        from lava.proc.dense.process import DelayDense, Dense

        return Dense, DelayDense


def net_dict(path: str) -> Any:
    """lava-dl's `NetDict` of a file, which scripts read settings from."""
    try:
        with _tamed():
            from lava.lib.dl.netx.utils import NetDict
    except ImportError as e:
        raise DeployError("lava-dl", f"cannot be imported ({e})", "net_config needs lava-dl 0.6.0; open the file with h5py instead") from e
    return NetDict(path)


__all__ = [
    "CPU", "AbstractProcess", "ActorType", "AsyncProtocol", "Channel", "ChannelBuilderMp", "CspRecvPort", "CspSendPort", "InPort",
    "LavaPyType", "LoihiProtocol", "MessageInfrastructureFactory", "MultiProcessing", "OutPort", "ProcessServer", "Proto",
    "PyAsyncProcessModel", "PyInPort", "PyLoihiProcessModel", "PyOutPort", "PyPyChannel", "RunConfig", "RunContinuous", "RunSteps",
    "Runtime", "SystemProcess", "implements", "lava_modules", "net_dict", "requires", "tag",
]
