"""Classes of scan positions: features, clusters, components, grains."""
