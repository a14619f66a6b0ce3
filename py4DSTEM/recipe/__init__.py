"""Recipes: the steps of an analysis as a text, checked as a whole, run on any file."""
