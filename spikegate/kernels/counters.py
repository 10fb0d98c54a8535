"""The counters of events, in the order of a record's last axis; docs/semantics.md says what each counts."""

COUNTERS = ("spike_in", "synop", "attention_ac", "neuron_update", "gate_update", "spike_out", "message")
