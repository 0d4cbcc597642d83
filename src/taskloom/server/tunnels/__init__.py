"""Tunnels: connections to what a running task serves, through the server."""
