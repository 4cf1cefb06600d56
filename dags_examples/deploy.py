"""Deploy a flow, start it and wait, from Python."""

from metaflow import Deployer

if __name__ == "__main__":
    deployed = Deployer("flows/demo.py").airflow(name="demo").create(tags=["nightly"], is_paused_upon_creation=False)
    run = deployed.trigger(threshold=12)
    run.wait_for_completion(check_interval=2)
    print(run.status, run.run.data.text)
