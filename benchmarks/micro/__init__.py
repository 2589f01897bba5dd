"""One thing measured at a time: cost, bulk jobs, clusters, engines, the gateway, the simulator."""
