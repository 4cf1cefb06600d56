"""A workflow of your own with Metaflow flows in it: `own_workflow.py FLOW IMAGE [NAMESPACE]` prints it for kubectl.

    python docs/argo/own_workflow.py tests/flows/switch.py registry.example.com/team/image:1 | kubectl create -f -

The flow has a parameter `route`: once it takes what an earlier task has chosen, once a fixed text. The last task gets
the pathspecs of both runs.
"""

import json
import sys

from hera.workflows import DAG, Container, Parameter, Workflow
from hera.workflows import models as m

from metaflow_adapters.argo import ArgoOptions, flow_task

flow, image, *rest = sys.argv[1:]
namespace = rest[0] if rest else None
with Workflow(generate_name="mine-", namespace=namespace, entrypoint="main") as workflow:
    choose = Container(
        name="choose",
        image=image,
        command=["sh", "-c", "printf short > /tmp/route"],
        outputs=[Parameter(name="route", value_from=m.ValueFrom(path="/tmp/route"))],
    )
    report = Container(
        name="report",
        image=image,
        inputs=[Parameter(name="first"), Parameter(name="second")],
        env=[
            m.EnvVar(name="FIRST", value="{{inputs.parameters.first}}"),
            m.EnvVar(name="SECOND", value="{{inputs.parameters.second}}"),
        ],
        command=["sh", "-c", 'echo "made by $FIRST and $SECOND"'],
    )
    with DAG(name="main"):
        chosen = choose(name="choose")
        options = ArgoOptions(namespace=namespace)
        one = flow_task(flow, "one", parameters={"route": chosen.get_parameter("route")}, options=options)
        two = flow_task(flow, "two", parameters={"route": "long"}, options=options)
        told = report(
            name="report",
            arguments=[
                one.get_parameter("pathspec").with_name("first"),
                two.get_parameter("pathspec").with_name("second"),
            ],
        )
        chosen >> one >> two >> told
        one >> told
print(json.dumps(workflow.to_dict()))
