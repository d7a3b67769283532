"""`mesh demo`."""

import typer


def demo() -> None:
    """Show two teams of agents at work, on a NATS server of their own that leaves nothing behind."""
    from mesh.cli.tour import tour

    raise typer.Exit(0 if tour() else 1)
