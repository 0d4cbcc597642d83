"""What crosses the network: one table of operations, the messages, and a client without input or output."""
