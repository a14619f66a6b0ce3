"""Virtual images and patterns that follow a hand: caches, differences, sampled sums."""
