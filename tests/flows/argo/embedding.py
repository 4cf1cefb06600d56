"""A user's own workflow, with a flow in it twice: `embedding.py FLOW IMAGE NAMESPACE` prints it."""

import json
import sys

from hera.workflows import DAG, Container, Parameter, Workflow
from hera.workflows import models as m
from metaflow_adapters.argo import flow_task

flow, image, namespace = sys.argv[1:]
with Workflow(generate_name="mine-", namespace=namespace, entrypoint="main") as workflow:
    choose = Container(
        name="choose",
        image=image,
        image_pull_policy="Never",
        command=["sh", "-c", "printf short > /tmp/route"],
        outputs=[Parameter(name="route", value_from=m.ValueFrom(path="/tmp/route"))],
    )
    with DAG(name="main"):
        first = choose(name="first")
        one = flow_task(flow, "one", parameters={"route": first.get_parameter("route")})
        two = flow_task(flow, "two", parameters={"route": "long"})
        first >> one >> two
print(json.dumps(workflow.to_dict()))
