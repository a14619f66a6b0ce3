"""Bragg disks: templates, detection, refinement, and what is made of the peaks."""
