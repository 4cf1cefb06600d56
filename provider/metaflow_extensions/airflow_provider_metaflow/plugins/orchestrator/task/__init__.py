"""What runs inside a task: standard library and Metaflow only, since it travels in every code package."""
