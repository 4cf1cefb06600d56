"""What a container needs to run a Metaflow task: its command, and the attributes of a pod or a job."""
