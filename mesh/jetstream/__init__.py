"""JetStream: connection, commits, pulls, provisioning. Nothing outside this folder knows nats-py."""
