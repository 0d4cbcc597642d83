"""What several bindings share: what a framework says, in our words. Loaded by the bindings that need it."""
