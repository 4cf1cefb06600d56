"""A DAG that starts a deployed flow, waits without holding a worker, and reads what it has made."""

from airflow.sdk import DAG, task

from airflow_provider_metaflow import MetaflowArtifactSensor, MetaflowRunOperator, artifact

with DAG("run_demo", schedule=None):
    run = MetaflowRunOperator(
        task_id="run", deployment="DemoFlow", parameters={"threshold": 12}, deferrable=True, poll_interval=5
    )
    winner = MetaflowArtifactSensor(task_id="winner", pathspec=run.output, artifact="text", deferrable=True)

    @task
    def report(text: str) -> str:
        return f"the demo says: {text}"

    text = artifact(run.output, "text")
    winner >> text
    report(text)
