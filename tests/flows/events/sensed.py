from datetime import timedelta

from metaflow import FlowSpec, airflow_external_task_sensor, airflow_s3_key_sensor, step


@airflow_external_task_sensor(
    external_dag_id="sensed_upstream",
    external_task_ids=["ready"],
    execution_delta=timedelta(hours=1),
    name="wait_task",
    # Airflow fails a task that it queues again before it has heard of the last reschedule (3.3.2), at 1 s now and then.
    poke_interval=8,
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
