"""Secrets: values that tasks may use and nobody reads."""
