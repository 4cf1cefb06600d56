"""What every orchestrator needs of a Metaflow flow: its graph, its manifest, its containers, the rules of a run.

Nothing in here imports an orchestrator, and only :mod:`~metaflow_orchestration.compile` imports Metaflow. The Airflow
provider and the adapters for Argo Workflows and AWS Step Functions stand on this package; neither imports the other.
"""
