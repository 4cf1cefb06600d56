from datetime import timedelta

from metaflow import FlowSpec, airflow_external_task_sensor, airflow_s3_key_sensor, step


@airflow_external_task_sensor(
    external_dag_id="sensed_upstream",
    external_task_ids=["ready"],
    execution_delta=timedelta(hours=1),
    name="wait_task",
    poke_interval=1,
    timeout=120,
    exponential_backoff=False,
    check_existence=False,
    description="Waits for a task.",
)
@airflow_s3_key_sensor(
    bucket_key="s3://sensed/keys/*.csv", wildcard_match=True, aws_conn_id="sensed_s3", poke_interval=1, mode="poke"
)
class SensedFlow(FlowSpec):
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    SensedFlow()
