"""The objects of a deployment: templates, containers, schedules, sensors and exit hooks, made from a plan."""
