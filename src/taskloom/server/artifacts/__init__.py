"""Named bytes of tasks, models with their lineage, and the uploads and downloads of the bytes themselves."""
