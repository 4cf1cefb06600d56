"""``python flow.py sfn …``: deploys a flow to AWS Step Functions. Loaded only when the group is used."""
