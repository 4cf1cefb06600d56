"""Size and cost of a flow on Step Functions, against Metaflow's own deployer in the same run.

    python benchmarks/step_functions_size.py     # flows of 5 and 100 steps, and runs of a foreach, on moto
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from argo_size import flow_of
from installation import HOME, ROOT
from tests.support.object_store import object_store
from tests.support.step_functions import StepFunctions, step_functions

SIDES = {"stock": "step-functions", "ours": "sfn"}
TABLE = "splits"


def deploy(aws: StepFunctions, flow: Path, side: str) -> str:
    """Deploy a flow, and return the text of its definition."""
    name = f"{side}-{flow.stem}"
    command = [sys.executable, flow.name, "--quiet", "--no-pylint", SIDES[side], "--name", name, "create"]
    subprocess.run(command, cwd=flow.parent, capture_output=True, check=True, env={**os.environ, **aws.environment})
    arn = f"arn:aws:states:us-east-1:123456789012:stateMachine:{name}"
    text: str = aws.client("stepfunctions").describe_state_machine(stateMachineArn=arn)["definition"]
    return text


def run(aws: StepFunctions, flow: Path, side: str, splits: int) -> dict[str, int]:
    """Run a flow with a foreach of so many splits, and count what it costs."""
    given = {"Parameters": json.dumps({"splits": splits})}
    execution = aws.start(f"{side}-{flow.stem}", "WideFlow", given)
    execution.wait(timeout=900)
    return {"transitions": execution.transitions(), "events": len(execution.history())}


def overrides(definition: str) -> int:
    """Return the size of the largest overrides of a job, without what is filled in at run time."""
    sizes = [0]

    def look(value: Any) -> None:
        if isinstance(value, dict):
            for key, one in value.items():
                if key == "ContainerOverrides":
                    sizes.append(len(json.dumps(one)))
                look(one)
        elif isinstance(value, list):
            for one in value:
                look(one)

    look(json.loads(definition))
    return max(sizes)


def main() -> None:
    results: dict[str, Any] = {}
    with object_store("127.0.0.1", HOME / "log") as store, step_functions(store) as aws:
        aws.client("dynamodb").create_table(
            TableName=TABLE, BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "pathspec", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pathspec", "AttributeType": "S"}],
        )  # fmt: skip
        aws.environment["METAFLOW_SFN_DYNAMO_DB_TABLE"] = TABLE
        for steps, is_plain in ((5, True), (5, False), (100, False)):
            flow = HOME / f"bench{steps}{'plain' if is_plain else ''}.py"
            text = flow_of(steps)
            if is_plain:
                text = text.replace("    @retry(times=2)\n", "").replace('    alpha = Parameter("alpha", default=1)\n', "")
            flow.write_text(text)
            texts = {side: deploy(aws, flow, side) for side in SIDES}
            found = {side: (len(text.encode()), overrides(text)) for side, text in texts.items()}
            name = f"{steps} steps, {'plain' if is_plain else 'with a parameter and @retry'}"
            results[name] = {
                "definition_bytes": found["ours"][0],
                "definition_bytes_stock": found["stock"][0],
                "definition_ratio": round(found["ours"][0] / found["stock"][0], 4),
                "overrides_bytes": found["ours"][1],
                "overrides_bytes_stock": found["stock"][1],
            }
            print(f"{name}: {results[name]}", flush=True)
        wide = HOME / "wide.py"
        wide.write_text((ROOT / "tests/flows/aws/wide.py").read_text())
        for side in SIDES:
            deploy(aws, wide, side)
        for splits in (2, 10):
            costs = {side: run(aws, wide, side, splits) for side in SIDES}
            results[f"foreach of {splits}"] = costs
            print(f"foreach of {splits}: {costs}", flush=True)
    file = ROOT / "benchmarks/results/step_functions_size.json"
    file.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
