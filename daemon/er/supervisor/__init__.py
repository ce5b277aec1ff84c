"""er-gateway's parent: sockets, workers, admin process, drain."""
