"""Objects in a cluster: read and written by the Kubernetes API, and compared with those of a deployment."""
