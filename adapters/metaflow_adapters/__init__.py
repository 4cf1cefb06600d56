"""Light adapters over the same flow graph: Argo Workflows and AWS Step Functions."""
