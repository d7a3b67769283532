"""OpenTelemetry: providers, spans and the names they use. Nothing outside this folder knows it."""
