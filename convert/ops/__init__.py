"""One file per op. `convert.ir.load_ops` imports them all, and importing an op enters it in the registry."""
