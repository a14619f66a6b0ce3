"""Files in and out: formats, recognised by content, opened lazily."""
