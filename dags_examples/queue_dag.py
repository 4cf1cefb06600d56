"""A flow that starts on the messages of a queue: Airflow's AssetWatcher, here on a channel of Redis."""

from airflow.providers.common.messaging.triggers.msg_queue import MessageQueueTrigger
from airflow.sdk import AssetWatcher

from airflow_provider_metaflow import MetaflowDag

orders = MessageQueueTrigger(scheme="redis+pubsub", channels=["orders"], poll_interval=1)
dag = MetaflowDag("flows/on_order.py", "on_queue", event_watchers={"orders.new": [AssetWatcher("orders", orders)]})
