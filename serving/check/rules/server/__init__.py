"""How the server is started: flags, ports, threads, probes, drain, models.config, batching.config."""
