"""Flows that start on events, and an Airflow task that publishes one."""

from airflow.sdk import DAG, task

from airflow_provider_metaflow import MetaflowDag
from airflow_provider_metaflow.events import event_asset

on_order = MetaflowDag("flows/on_order.py")
after_demo = MetaflowDag("flows/after_demo.py")

new_order = event_asset("orders.new")

with DAG("publisher", schedule=None):

    @task(outlets=[new_order])
    def publish(*, outlet_events):
        outlet_events[new_order].extra = {"id": 7}

    publish()
