"""The words of Taskloom and their rules: pure values, no input or output, no clock."""
