"""Random nets of every kind of op, wired as its design rules allow; `tests/test_witness.py` runs them twice."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from spikegate.graph.ir import OPS, Edge, Graph, Op, Payload, load_ops
from spikegate.neurons.cuba import Cuba
from spikegate.neurons.leaky import Alif, Leaky
from spikegate.neurons.resonator import Adrf, Rf, RfIz
from spikegate.neurons.sigma_delta import Sigma, SigmaDelta

load_ops()
CLASSES, THETA, HEADS = 3, 1014, 2
NO_WEIGHTS = np.zeros(0, np.int32)
ORDERS = ("none", "serial", "rectangle", "block", "time")
TOKENWISE = ("conv", "token_mix", "branch", "spiking_attention", "qk_token_gate", "qk_channel_gate", "multiscale_gate", "sdsa", "gate")
ACROSS = ("wide_conv", "grouped_conv", "max_pool", "lif", "relay", "step_window", "axon_delay", "route")
FOREIGN = ("block_conv", "block_conv_t", "block_pool", "block_unpool", "block_input")
KINDS = (*TOKENWISE, *ACROSS, *FOREIGN)


class Builder:
    """A graph that grows; `bits` and `maps` are the ops whose output the next one may read."""

    def __init__(self, seed: int, order: str, *, merge: bool, masks: bool, signed: bool) -> None:
        self.rng, self.order, self.masks = np.random.default_rng(seed), order, masks
        self.grid = int(self.rng.integers(1, 4)), int(self.rng.integers(2, 5))
        self.tokens, self.channels = self.grid[0] * self.grid[1], int(self.rng.choice([4, 4, 6, 18, 34]))
        low, high = (-90, 90) if signed else (0, 3)
        self.fine = 2 if signed and self.rng.random() < 0.3 else 1  # positions of the embedding's first map along a token's side
        shape = self.tokens * self.fine**2, self.channels
        self.g = Graph(timesteps=int(self.rng.integers(1, 6)), input_shape=shape, input_payload=Payload(low, high))
        self.bits: list[str] = []
        self.maps: list[str] = []
        self.alive: tuple[str, bool] | None = None  # the credit that is obeyed, and whether it comes from the timestep before
        self.before: tuple[str, bool] | None = None
        self.gates = 0
        self.encoder(signed)
        self.begin(merge)

    def any_name(self, kind: str) -> str:
        return f"{kind}{len(self.g.ops)}"

    def add(self, kind: str, op: Op, *, slots: dict[str, list[str]], alive: bool = False, mask: bool = False, name: str = "") -> str:
        """Append an op, with the credit and at times a timestep mask."""
        name = name or self.any_name(kind)
        late = []
        if alive and self.alive is not None:
            slots["alive"] = [self.alive[0]]
            late = ["alive"] if self.alive[1] else []
        if mask and self.masks and self.rng.random() < 0.6:
            rule = str(self.rng.choice(["mute", "hold", "skip"]))
            gate = OPS["timestep_gate"](self.rng.integers(0, 2, self.g.timesteps), rule)
            slots["open"] = [self.g.add(self.any_name("mask"), gate)]
        return self.g.add(name, op, delayed=late, **slots)

    def sources(self, of: list[str], most: int = 3) -> list[str]:
        return list(self.rng.choice(of, int(self.rng.integers(1, most + 1)), replace=len(of) < most))

    def high(self, names: Iterable[str]) -> int:
        return sum(self.g.payload_of(n).high for n in names)

    def weight(self, *shape: int) -> np.ndarray:
        """Even numbers, smaller where many add up."""
        most = max(2, 800 // int(np.prod(shape[1:]) * (3 if len(shape) == 4 else 1)))
        most = min(most, 34)
        return self.rng.integers(-most, most + 4, shape) * 2 * (self.rng.random(shape) < 0.8)

    def bias(self, n: int) -> np.ndarray:
        return self.rng.integers(-30, 40, n)

    def cuba(self) -> Cuba:
        kept = int(self.rng.choice([4096, 4096, 1000]))
        leak, vth = int(self.rng.choice([2048, 4096, 300, 0] if kept == 4096 else [2048, 4096])), int(self.rng.integers(1, 120))
        soft = self.rng.random() < 0.3
        return Cuba(kept, leak, vth, "subtract", int(self.rng.choice([0, vth, 3, 150]))) if soft else Cuba(kept, leak, vth)

    def encoder(self, signed: bool) -> None:
        shape = self.tokens, self.channels
        ring = {"serial": "last", "time": "last", "rectangle": "gate0"}.get(self.order)
        self.alive = (ring, True) if ring and self.rng.random() < 0.5 else None  # whether the embedding halts, too
        if self.fine > 1 or (signed and self.rng.random() < 0.4):
            neurons = Cuba(4096, 2048, 40, "subtract") if self.rng.random() < 0.3 else Cuba(4096, 2048, 40)
            grid = self.grid[0] * self.fine, self.grid[1] * self.fine
            op = OPS["biased"](self.g.input_shape, -90, 90, neurons, grid)
            self.bits.append(self.add("biased", op, slots={"x": ["input"]}, alive=True, mask=True))
            if self.fine > 1:
                c = self.channels
                op = OPS["conv"](self.weight(c, c, 3, 3), self.bias(c), grid, 2, 1, neuron=self.cuba())
                self.bits = [self.add("halving", op, slots={"x": list(self.bits)}, alive=True, mask=True)]
        elif signed:
            held = self.add("inject", OPS["inject"](shape, -90, 90), slots={"x": ["input"]})
            self.bits.append(self.add("lif", OPS["lif"](shape, Cuba(4096, 2048, 40)), slots={"x": [held]}, mask=True))
        else:
            op = OPS["level_conv"](self.weight(self.channels, self.channels, 3, 3), self.bias(self.channels), self.grid, 60, 2, 1, 1, 1)
            level = self.add("level_conv", op, slots={"x": ["input"]})
            self.maps.append(self.add("inject", OPS["inject"](shape, 0, 5), slots={"x": [level, "input"]}))
            self.bits.append(self.add("lif", OPS["lif"](shape, Cuba(4096, 2048, 1)), slots={"x": self.maps[-1:]}))
        self.maps += self.bits

    def begin(self, merge: bool) -> None:
        """What the first block obeys, and the merging before it."""
        ring = {"serial": "last", "time": "last", "rectangle": "gate0"}.get(self.order)
        self.alive = (ring, True) if ring else None
        if merge:
            raw = list(self.maps)
            op = OPS["token_merge"](self.grid, self.channels, int(self.rng.integers(-1, 6)), THETA)
            chain: dict[str, list[str]] = {"chain": [ring]} if ring else {}
            credit = self.g.add("merge", op, delayed=["chain"] if ring else [], x=raw, **chain)
            self.alive = credit, False
            move = OPS["token_move"](self.grid, self.channels, self.high(raw))
            self.maps = [*raw, self.g.add("move", move, x=raw, after=credit)]
        self.before = self.alive
        relay = OPS["relay"]((self.tokens, self.channels), self.high(self.maps))
        self.maps = [self.add("relay", relay, slots={"x": list(self.maps)}, alive=True)]
        if self.order == "rectangle" and self.rng.random() < 0.4:
            cut, theta, shift = int(self.rng.integers(0, 6 * self.channels)), int(self.rng.integers(1, 4)), int(self.rng.integers(0, 4))
            gate = OPS["contrast_gate"](self.grid, self.channels, cut, theta, shift)
            self.alive = self.g.add("gate0", gate, delayed=["chain"], x=self.sources(self.maps), chain=["gate0"]), False
        elif self.order == "rectangle":
            self.gate("gate0")

    def gate(self, name: str = "") -> None:
        """A gate after what is there; its credit is obeyed from here on."""
        if self.order == "none" or (self.order == "time" and name != "last"):
            return
        read = self.sources(self.maps)
        wide = self.rng.random() < 0.3
        width = 2 if wide else 1
        table = self.rng.integers(0, 500, width * self.high(read) + 1)
        kind = "rectangle_gate" if self.order == "rectangle" and name != "gate0" else "token_gate"
        op = OPS[kind](self.tokens, table, THETA, int(self.rng.integers(0, 2)), width)
        late = ["chain"] if self.alive is not None and self.alive[1] else []
        if self.order == "block" and not self.gates and self.alive is None:
            chain = {}
        else:
            assert self.alive is not None
            chain = {"chain": [self.alive[0]]}
        self.alive = self.g.add(name or self.any_name("gate"), op, delayed=late, x=read, **chain), False
        self.gates += 1

    def grow(self, kind: str) -> None:
        """One more op of this kind, or a group of them."""
        n, c, rng = self.tokens, self.channels, self.rng
        if kind == "gate":
            return self.gate()
        if kind == "branch":
            return self.branch()
        if kind in FOREIGN:
            return self.foreign(kind)
        op: Op
        if kind == "conv":
            op, slots = OPS["conv"](self.weight(c, c, 1, 1), self.bias(c), self.grid, neuron=self.cuba()), {"x": self.sources(self.maps)}
        elif kind == "wide_conv":
            op = OPS["conv"](self.weight(c, c, 3, 3), self.bias(c), self.grid, 1, 1, neuron=self.cuba())
            slots = {"x": self.sources(self.maps)}
        elif kind == "grouped_conv":
            op = OPS["conv"](self.weight(c, c // 2, 1, 3), self.bias(c), self.grid, 1, (0, 1), 2, self.cuba())
            slots = {"x": self.sources(self.maps)}
        elif kind == "token_mix":
            op, slots = OPS["token_mix"](self.weight(HEADS, n, n), c, self.cuba()), {"x": self.sources(self.maps)}
        elif kind == "max_pool":
            op, slots = OPS["max_pool"](self.grid, c, 3, 1, 1), {"x": self.sources(self.bits, 1)}
        elif kind == "lif":
            op, slots = OPS["lif"]((n, c), self.cuba()), {"x": self.sources(self.maps)}
        elif kind == "step_window":
            slots = {"x": self.sources(self.maps)}
            op = OPS["step_window"]((n, c), rng.integers(0, 2, self.g.timesteps), self.high(slots["x"]))
        elif kind == "relay":
            slots = {"x": self.sources(self.maps)}
            op = OPS["relay"]((n, c), self.high(slots["x"]))
        elif kind == "axon_delay":
            slots = {"x": self.sources(self.bits, 1)}
            op = OPS["axon_delay"]((n, c), rng.integers(0, 4, c))
        elif kind == "route":
            slots = {"x": self.sources(self.bits, 1)}
            op = OPS["route"](self.grid, 1, c - 2, c, 0, 1, 1, int(rng.integers(0, 3)))
        elif kind == "spiking_attention":
            counts = int(rng.integers(1, 4)) * 8 - 1
            op = OPS[kind](n, c, HEADS, 3, Cuba(4096, 2048, counts), str(rng.choice(["kv", "qk"])))
            relay = OPS["relay"]((n, c), 1)  # an attention takes what dead tokens cannot send
            slots = {s: [self.add("relay", relay, slots={"x": self.sources(self.bits, 1)}, alive=True)] for s in "qkv"}
        else:
            heads = {"qk_token_gate": (HEADS,), "multiscale_gate": (HEADS, int(rng.integers(1, 3)))}.get(kind, ())
            op = OPS[kind](n, c, *heads)
            slots = {s.rstrip("?*"): self.sources(self.bits, 1) for s in op.slots if s != "alive?"}
        obeys = "alive?" in op.slots and (kind not in ("wide_conv", "grouped_conv") or bool(rng.random() < 0.5))
        self.keep(self.add(kind, op, slots=slots, alive=obeys, mask="open?" in op.slots))

    def keep(self, name: str) -> None:
        self.maps.append(name)
        if self.g.payload_of(name).binary:
            self.bits.append(name)

    def branch(self) -> None:
        """Currents with one or two readers."""
        readers, c = int(self.rng.integers(1, 3)), self.channels
        currents = []
        for _ in range(int(self.rng.integers(1, 3))):
            op = OPS["current"](self.weight(c, c, 1, 1), self.bias(c), self.grid, copies=readers)
            currents.append(self.add("current", op, slots={"x": self.sources(self.bits, 1)}, alive=True))
        for _ in range(readers):
            slots = {"current": list(currents)}
            if self.rng.random() < 0.5:
                slots["x"] = self.sources(self.maps)
            name = self.add("membrane", OPS["membrane"]((self.tokens, c), self.cuba()), slots=slots, alive=True, mask=True)
            self.keep(name)

    def foreign(self, kind: str) -> None:
        rng, c = self.rng, self.channels
        spread = Leaky(rng.integers(0, 4097, c), rng.integers(0, 4097, c), 60, int(rng.integers(-1, 3)))
        adaptive = Alif(1024, 300, rng.integers(0, 4097, c), 200, 40, 30)
        turning = [cls(rng.integers(900, 3000, c), 2400, 20) for cls in (Rf, RfIz)] + [Adrf(1500, 3000, 200, 900, 20, 10)]
        kernel = {"block_conv": (c, c, 3, 3), "block_conv_t": (c, c, 1, 3), "block_pool": (1, 1, 1, 1), "block_unpool": (1, 1, 1, 1)}
        if kind == "block_input":
            op: Op = OPS[kind]((self.tokens, c), 36, 34, Leaky(4096, 1024, 25))
        else:
            neuron = [spread, adaptive, *turning][int(rng.integers(0, 5))]
            w = rng.integers(-60, 61, kernel[kind])
            imag = rng.integers(-60, 61, kernel[kind]) if neuron.complex else NO_WEIGHTS
            bias = np.zeros(c, np.int64) if neuron.complex else rng.integers(-9, 10, c)
            if kind in ("block_conv", "block_conv_t"):
                edge = (1, 1) if kind == "block_conv" else (0, 1)
                op = OPS[kind](w, imag, bias, self.grid, (1, 1), edge, neuron=neuron)
            else:
                op = OPS[kind](w, imag, bias, self.grid, c, (1, 1), neuron=neuron)
        self.keep(self.add(kind, op, slots={"x": self.sources(self.maps, 2)}))

    def feedback(self) -> None:
        """A delayed edge from some op into an earlier one."""
        order = list(self.g.ops)
        earlier = [m for m in self.maps if self.g.ops[m].kind == "conv"]
        if earlier:
            target = str(self.rng.choice(earlier))
            later = [b for b in self.bits if order.index(b) >= order.index(target)]
            if later:
                self.g.edges.append(Edge(str(self.rng.choice(later)), target, "x", 1))

    def finish(self, end: str) -> Graph:
        """Read-out and exit, or a layer whose output is summed up."""
        rng, n, c, t = self.rng, self.tokens, self.channels, self.g.timesteps
        if self.order in ("serial", "time"):
            self.gate("last")
        after = {"rectangle": "gate0", "none": None}.get(self.order, self.alive[0] if self.alive else None)
        if end == "readout":
            slots: dict[str, list[str]] = {"x": self.sources(self.maps)}
            late = []
            if after is not None and self.before is not None:
                slots |= {"before": [self.before[0]], "after": [after]}
                late = ["before"] if self.before[1] else []
            elif self.rng.random() < 0.5:
                w = OPS["current"](self.weight(CLASSES, c, *self.grid), self.bias(CLASSES), self.grid)
                slots["current"] = [self.add("current", w, slots={"x": self.sources(self.bits, 1)})]
                to_class = OPS["block_dense"](self.weight(CLASSES, n * c), NO_WEIGHTS, np.zeros(CLASSES, int), Leaky())
                self.add("block_dense", to_class, slots={"x": self.sources(self.maps)})
            head = OPS["readout"](self.weight(CLASSES, n, c), self.bias(CLASSES), t)
            self.g.add("readout", head, delayed=late, **slots)
            policy = str(rng.choice(["fixed_window", "threshold_then_argmax"]))
            gate = OPS["exit_gate"](CLASSES, t, rng.integers(50, 2000, t), policy)
            self.g.add("exit", gate, logits="readout", **({"alive": after} if "after" in slots else {}))
        elif end == "dense":
            self.g.add("dense", OPS["dense"](self.weight(5, n * c), self.bias(5), self.cuba()), x=self.sources(self.maps))
        elif end == "average":
            self.g.add("average", OPS["block_average"]((n, c), 2), x=self.sources(self.bits, 1))
        elif end == "recurrent":
            op = OPS["block_recurrent"](self.weight(4, n * c), NO_WEIGHTS, self.weight(4, 4), self.bias(4), Leaky(2000, 300, 80))
            self.g.add("rec", op, delayed=["s"], x=self.sources(self.maps), s="rec")
        elif end == "sigma":
            first = OPS["block_dense"](self.weight(6, n * c), NO_WEIGHTS, self.bias(6), SigmaDelta(2, 0))
            self.g.add("delta", first, x=self.sources(self.maps))
            self.g.add("sigma", OPS["block_dense"](self.weight(4, 6), NO_WEIGHTS, np.zeros(4, int), Sigma()), x="delta")
        self.g.check()
        return self.g


def random_graph(seed: int, order: str, kinds: list[str], end: str, *, merge: bool, masks: bool, signed: bool, feedback: bool) -> Graph:
    """A net with ops of these kinds between an embedding and an end."""
    builder = Builder(seed, order, merge=merge and order != "none", masks=masks, signed=signed)
    for kind in kinds:
        builder.grow(kind)
    if feedback:
        builder.feedback()
    return builder.finish(end)
