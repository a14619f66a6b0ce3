"""Work off the GUI thread: a queue of jobs, and lanes in which the latest request wins."""
