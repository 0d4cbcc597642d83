"""Places to run something: one contract, and the implementations that keep it."""
