"""A second simulator, written from docs/semantics.md, docs/ops.md and docs/format.md alone.

It shares no code with the engine: plain NumPy, h5py and onnx, one sample and one timestep at a time. Where it and the engine
differ, one of them or the documents are wrong.
"""
