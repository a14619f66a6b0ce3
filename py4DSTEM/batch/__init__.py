"""Recipes over many files: one worker process per file at a time, results that survive a kill."""
