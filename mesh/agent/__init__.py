"""What an author writes: agents, handlers and what a handler may do. Knows neither a broker nor a loop."""
