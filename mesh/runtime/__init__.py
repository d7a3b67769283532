"""The loop of an agent: decode, run, commit, settle, drain. Sees the broker through `mesh.runtime.ports` only."""
