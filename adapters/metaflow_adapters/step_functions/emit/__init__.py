"""States, jobs, rules and schedules of a deployment, made from a plan in the words of AWS."""
