"""Environments: what their authors declare, and one eval task between its prompt and its grade."""
