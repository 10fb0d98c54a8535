"""Models of snnTorch and Sinabs as NIR graphs, with what NIR's own export of them leaves out: the reset, and spikes per timestep."""
