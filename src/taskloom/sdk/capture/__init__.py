"""What a run tells about itself without being asked: code, packages, arguments, console, machine metrics.

Each file watches one thing and hands plain values to whoever built it; none knows the journal or the server.
"""
