"""Amazon's APIs by moto's server, with Batch jobs as processes of this machine."""
