"""The unmodified HUD client and command, pointed at this server by its variables; see docs/hud.md."""
