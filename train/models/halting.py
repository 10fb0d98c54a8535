"""Token halting and merging over the blocks of one token grid: which credit gates each block, and a gate after each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from spikegate.graph.ir import DeployError, Edge
from spikegate.train.layers.rectangle_gate import Rectangle
from spikegate.train.layers.relay import Pass
from spikegate.train.layers.token_gate import Gate
from spikegate.train.layers.token_merge import Merge
from spikegate.train.layers.token_move import Move
from spikegate.train.models.net import Net

CreditInputs = tuple[dict[str, Any], list[str]]  # sources, and which of their slots act one timestep later


class TokenHalting:
    """Credit goes from `merge`, where that is on, from gate to gate; layers read `credit_inputs` before they are added.

    Serial order: a gate after each block; block 1 uses the last gate of the timestep before. Rectangle order: gate 0 on
    the embedding uses its own credit, a gate after each block but the last uses that of the gate before, all in the same timestep. Two
    ablations: block order is the rectangle's without memory, each timestep starts with full credit; time order has one
    gate, after the last block.
    A model calls `embed` (or `merged`, `embedding`, `start` one by one) for its embedding, `after_block` for each block, and,
    where neurons stand before the head, `leave_blocks`.
    """

    def __init__(self, net: Net, config: Any, tokens: int, blocks: int, prefix: str = "") -> None:
        self.net, self.config, self.tokens, self.blocks, self.prefix = net, config, tokens, blocks, prefix
        self.gated, self.order = bool(config.halting.enabled), config.halting.order
        self.from_embedding = self.order in ("rectangle", "block")
        number = 0 if self.order == "rectangle" else blocks
        self.last = f"{prefix}gate{number}" if self.gated and self.order != "block" else ""
        self.gate0 = f"{prefix}gate0"
        self.credit = self.before = self.last

    @classmethod
    def of(cls, net: Net, config: Any, tokens: int, blocks: int, prefix: str = "") -> TokenHalting | None:
        """None where token halting and merging are off."""
        return cls(net, config, tokens, blocks, prefix) if config.halting.enabled or config.merge.enabled else None

    def _credit_input(self, slot: str, credit: str) -> CreditInputs:
        """A credit that is not there yet is that of the timestep before."""
        if not credit:
            return {}, []
        return {slot: credit}, [] if credit in self.net.named else [slot]

    @property
    def credit_inputs(self) -> CreditInputs:
        """For a layer in the present block."""
        return self._credit_input("alive", self.credit)

    @property
    def embedding(self) -> CreditInputs:
        """For what replays the embedding."""
        return self._credit_input("alive", self.before)

    def merged(
        self, sources: list[str], high: int, grid: tuple[int, int], prefix: str, once: bool = False, channels: int | None = None
    ) -> tuple[list[str], int]:
        """Where merging is on: the decision on the embedding's `sources` (at most `high` in sum; `once`: they work at the
        first timestep only), and the move of what was absorbed. Returns what feeds the relay or replay, and its largest sum."""
        config, channels = self.config, channels or self.config.dim
        if not config.merge.enabled:
            return list(sources), high
        merge = Merge(grid, channels, config.merge.delta, config.halting.bits, config.halting.slope)
        credit_inputs, delayed = self._credit_input("chain", self.last)
        self.credit = self.before = self.net.add(f"{prefix}.merge", merge, x=list(sources), delayed=delayed, **credit_inputs)
        move = self.net.add(f"{prefix}.move", Move(grid, channels, high, once), x=list(sources), after=self.credit)
        return [*sources, move], 2 * high

    def start(self, stream: list[str], high: int) -> None:
        """Where the order asks for it and it is not there yet, the gate on the embedding: on spikes of the stream before block 1."""
        if self.gated and self.from_embedding and self.gate0 not in self.net.named:
            self._gate(0, Gate, stream, high)

    def embed(
        self, sources: list[str], high: int, grid: tuple[int, int], prefix: str, channels: int | None = None, layers: Iterable[str] = ()
    ) -> tuple[list[str], int]:
        """For an embedding that spikes in every timestep: merging, a relay that silences dead tokens, the first gate.

        Where the settings ask for it, the embedding's `layers` halt with their tokens, too, from the timestep after; then no relay has to.
        Returns sources and largest sum of the stream that enters block 1.
        """
        if self.config.halting.embedding:
            self._halt_embedding(layers)
        stream, high = self.merged(sources, high, grid, prefix, channels=channels)
        if not (self.config.halting.embedding and {*stream} <= {*layers}):
            alive, delayed = self.credit_inputs
            relay = Pass((self.tokens, channels or self.config.dim), high)
            stream = [self.net.add(f"{prefix}.relay", relay, x=stream, delayed=delayed, **alive)]
        self.start(stream, high)
        return stream, high

    def _halt_embedding(self, layers: Iterable[str]) -> None:
        """Gate layers that are there already by the credit of the timestep before."""
        key = "model.halting.embedding"
        if self.config.merge.enabled:
            raise DeployError(key, "an absorbed token's embedding goes on in its neighbour", "switch model.merge.enabled off")
        alive, delayed = self.embedding
        if not alive:
            raise DeployError(key, f"in {self.order} order no token stays dead until the next timestep", "use serial, rectangle or time")
        self.net.edges += [Edge(alive["alive"], layer, "alive", int("alive" in delayed)) for layer in layers]

    def after_block(self, block: int, stream: list[str], high: int) -> None:
        """Add the gate after `block` (from 1); `stream` are the sources whose spikes it counts, at most `high` in sum."""
        ends = block == self.blocks
        if not self.gated or (ends and self.from_embedding) or (not ends and self.order == "time"):
            return
        self._check_start()
        self._gate(block, Rectangle if self.order == "rectangle" else Gate, stream, high)

    def leave_blocks(self) -> None:
        """Layers from here on use the credit that the timestep began with: a token that dies still contributes to the head."""
        self.credit = self.before

    def _check_start(self) -> None:
        if self.from_embedding and self.gate0 not in self.net.named:
            raise DeployError("model.halting.order", f"{self.config.name} has no gate on its embedding", "use serial")

    def _gate(self, number: int, kind: type[Gate], stream: list[str], high: int) -> None:
        halting = self.config.halting
        gate = kind(
            self.tokens, high * halting.width, halting.gamma, halting.beta, halting.bits, halting.slope, width=halting.width
        )  # fmt: skip
        credit_inputs, delayed = self._credit_input("chain", self.credit)
        self.credit = self.net.add(f"{self.prefix}gate{number}", gate, x=list(stream), delayed=delayed, **credit_inputs)

    @property
    def ends(self) -> tuple[dict[str, Any], list[str], dict[str, Any]]:
        """(sources and delayed slots of the read-out, sources of the exit gate)."""
        if self.config.merge.enabled and self.before == self.last:
            raise DeployError("model.merge.enabled", f"{self.config.name} has no embedding of spikes to compare", "switch it off")
        if not self.last:
            return {}, [], {}
        self._check_start()
        return {"before": self.before, "after": self.last}, ["before"] if self.before == self.last else [], {"alive": self.last}
