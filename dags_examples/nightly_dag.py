"""A flow as a part of a larger DAG, twice, with parameters from an upstream task."""

from airflow.sdk import DAG, task

from airflow_provider_metaflow import MetaflowTaskGroup

with DAG("nightly", schedule=None, catchup=False):

    @task
    def regions() -> str:
        return "east,west"

    @task
    def report(first: str, second: str) -> str:
        return f"compared {first} with {second}"

    wanted = regions()
    strict = MetaflowTaskGroup("flows/demo.py", group_id="strict", parameters={"regions": wanted, "threshold": 15})
    lenient = MetaflowTaskGroup("flows/demo.py", group_id="lenient", parameters={"regions": wanted, "threshold": 1})
    wanted >> [strict, lenient]
    [strict, lenient] >> report(strict.pathspec, lenient.pathspec)
