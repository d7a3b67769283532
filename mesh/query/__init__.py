"""Reading the log: decoded records, as the command line and programs see them."""
