"""The science: operations that see each pattern once, and what is built on them."""
