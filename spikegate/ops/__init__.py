"""One file per op. `spikegate.graph.ir.load_ops` imports them all, and importing an op enters it in the registry."""
