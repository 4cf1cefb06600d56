"""``python flow.py argo …``: deploys a flow to Argo Workflows. Loaded only when the group is used."""
