"""What draws the project: images, shapes on them, profiles, lists."""
