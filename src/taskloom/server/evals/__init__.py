"""Evaluations on the server: jobs, runs and traces as they were recorded, tasksets, reports, leaderboards."""
