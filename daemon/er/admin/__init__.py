"""The admin process: API on the unix socket, prober, samples, metrics."""
