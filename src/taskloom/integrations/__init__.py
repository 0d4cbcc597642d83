"""Classes that a script hands to its framework: a logger for Lightning, callbacks for others.

One framework a file, which loads it: `from taskloom.integrations.lightning import TaskloomLogger`. What is recorded
without being asked is the business of `taskloom.sdk.bindings`.
"""
