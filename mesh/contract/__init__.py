"""The contract: what a `.proto` file says, as subjects, ids and headers. Pure; no I/O."""
