"""Token halting over the blocks of one token grid: which credit each block obeys, and a gate after each."""

from __future__ import annotations

from typing import Any

from train.layers.token_gate import Gate
from train.net import Net


class TokenHalting:
    """Serial order: a gate after each block; block 1 obeys the last gate of the timestep before.

    Blocks read `wires` before they are added; `after_block` then moves on to the next one.
    """

    def __init__(self, net: Net, config: Any, tokens: int, blocks: int, prefix: str = "") -> None:
        self.net, self.config, self.tokens, self.prefix = net, config, tokens, prefix
        self.last = f"{prefix}gate{blocks}"
        self.credit, self.fed_back = self.last, True

    @classmethod
    def of(cls, net: Net, config: Any, tokens: int, blocks: int, prefix: str = "") -> TokenHalting | None:
        """None where token halting is off."""
        return cls(net, config, tokens, blocks, prefix) if config.halting.enabled else None

    @property
    def wires(self) -> tuple[dict[str, Any], list[str]]:
        """(sources, delayed slots) of a layer in the present block."""
        return {"alive": self.credit}, ["alive"] if self.fed_back else []

    @property
    def embedding(self) -> tuple[dict[str, Any], list[str]]:
        """(sources, delayed slots) of what replays the embedding."""
        return {"alive": self.last}, ["alive"]

    def after_block(self, block: int, stream: list[str], high: int) -> None:
        """Add the gate after `block` (from 1); `stream` are the sources whose counts it scores, at most `high` in sum."""
        halting = self.config.halting
        gate = Gate(self.tokens, high, halting.gamma, halting.beta, halting.bits, halting.slope)
        delayed = ["chain"] if self.fed_back else []
        self.credit = self.net.add(f"{self.prefix}gate{block}", gate, x=list(stream), chain=self.credit, delayed=delayed)
        self.fed_back = False

    @property
    def ends(self) -> tuple[dict[str, Any], list[str], dict[str, Any]]:
        """(sources and delayed slots of the read-out, sources of the exit gate)."""
        return {"before": self.last, "after": self.last}, ["before"], {"alive": self.last}
