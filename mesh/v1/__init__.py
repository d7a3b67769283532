"""The messages of mesh itself, generated from `proto/mesh/v1`: contract options, registry, log."""
