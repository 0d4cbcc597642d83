"""What runs pour in: scalar series, console, plots. Kept in the telemetry database, read by charts and pages."""
